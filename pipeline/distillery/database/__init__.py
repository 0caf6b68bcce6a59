"""Postgres with pgvector: episodes, progress and hints. The only state that several workers share.

All SQL of the pipeline is in this package: a store for each table or pair of tables.
"""

from distillery.database.connection import (
    ConnectionFailed,
    Database,
    DatabaseAway,
    DatabaseError,
    DatabaseRefused,
    DataError,
    Row,
    dsn_from_environment,
)

__all__ = [
    "ConnectionFailed",
    "DataError",
    "Database",
    "DatabaseAway",
    "DatabaseError",
    "DatabaseRefused",
    "Row",
    "dsn_from_environment",
]
