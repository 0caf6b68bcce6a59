"""The schema's version: up to the newest, or down to an older one. Safe to run from many places at once.

python -m distillery.database.migrate [REVISION]    on the database that the environment names
"""

from __future__ import annotations

import sys
from pathlib import Path

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config

from distillery.database.connection import dsn_from_environment

# Any constant does; it only has to be the same everywhere.
_LOCK = 0x64697374696C6C


def migrate(dsn: str, revision: str = "head") -> None:
    """Bring the schema to a revision: ``head``, a revision id, or ``base`` for none.

    Blocks while another process migrates. Raises psycopg's errors where the server can't be reached or lacks rights.
    """
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn))
    try:
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            config = Config(attributes={"connection": connection})
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            if revision == "base" or revision < _current(connection):
                command.downgrade(config, revision)
            else:
                command.upgrade(config, revision)
    finally:
        engine.dispose()


def _current(connection: sqlalchemy.Connection) -> str:
    known = connection.execute(sqlalchemy.text("SELECT to_regclass('alembic_version')")).scalar()
    row = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).first() if known else None
    return row[0] if row else ""


def main() -> None:
    """Migrate; exit code 78 where no database is named."""
    dsn = dsn_from_environment()
    if not dsn:
        print("name a database in DISTILLERY_DATABASE or DISTILLERY_DATABASE_FILE", file=sys.stderr)
        sys.exit(78)
    migrate(dsn, *sys.argv[1:2])


if __name__ == "__main__":
    main()
