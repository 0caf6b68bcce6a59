"""Postgres with pgvector: episodes, progress and hints. The only state that several workers share."""

from distillery.database.connection import Database, DatabaseAway, Row

__all__ = ["Database", "DatabaseAway", "Row"]
