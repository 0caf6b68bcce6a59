"""Postgres with pgvector: episodes, progress and hints. The only state that several workers share."""

from distillery.database.connection import Database, DatabaseAway, DatabaseRefused, Row, dsn_from_environment

__all__ = ["Database", "DatabaseAway", "DatabaseRefused", "Row", "dsn_from_environment"]
