"""The migration of the schema, up to the newest revision or down to an older one. Safe to run in parallel.

python -m distillery.database.migrate [REVISION]    on the database that the environment names
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from distillery.database.connection import DatabaseRefused, dsn_from_environment, refusal_of

MigrationError = DBAPIError
"""A statement of a migration failed; ``orig`` is the error of the server."""

UnknownRevision = CommandError
"""The schema has a revision that this version does not know."""

# Any constant does; it only has to be the same everywhere.
_LOCK = 0x64697374696C6C

# pgvector 0.8 brought iterative scans, which banks of more than 10,000 hints need.
_MIN_PGVECTOR = (0, 8)


def migrate(dsn: str, revision: str = "head") -> None:
    """Bring the schema to a revision: ``head``, a revision id, or ``base`` for none.

    Blocks while another process migrates. A schema that a newer version brought up stays as it is.

    Raises:
        DatabaseRefused: the server does not let us in, or lacks pgvector 0.8.
        psycopg.Error: the server is away, or lacks rights.
    """
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn))
    try:
        try:
            begun = engine.connect()
        except DBAPIError as error:
            reason = error.orig
            raise (refusal_of(reason) or reason if isinstance(reason, psycopg.Error) else error) from None
        with begun as connection, connection.begin():
            if revision != "base":
                _check_pgvector(connection)
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            config = Config(attributes={"connection": connection})
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            current = _current(connection)
            if revision == "base" or revision < current:
                command.downgrade(config, revision)
            elif revision != "head" or current <= _newest(config):
                command.upgrade(config, revision)
    finally:
        engine.dispose()


def _newest(config: Config) -> str:
    """Return the newest revision that this version knows."""
    return ScriptDirectory.from_config(config).get_current_head() or ""


def _check_pgvector(connection: sqlalchemy.Connection) -> None:
    """Check that the server has a pgvector that is new enough. Raises :class:`DatabaseRefused`."""
    query = "SELECT coalesce(installed_version, default_version) FROM pg_available_extensions WHERE name = 'vector'"
    version = connection.execute(sqlalchemy.text(query)).scalar()
    if version is None:
        raise DatabaseRefused(
            "the database's server has no pgvector: install 0.8 or newer there, or take another server"
        )
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _MIN_PGVECTOR:
        raise DatabaseRefused(
            f"the database has pgvector {version}, and 0.8 or newer is needed: install it on the server and run "
            "ALTER EXTENSION vector UPDATE, or take another server"
        )


def _current(connection: sqlalchemy.Connection) -> str:
    """Return the revision of the schema; empty if there is none."""
    table = connection.execute(sqlalchemy.text("SELECT to_regclass('alembic_version')")).scalar()
    row = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).first() if table else None
    return row[0] if row else ""


def main() -> None:
    """Migrate; exit with code 78 where no database is named, or one that can't be used as it is."""
    dsn = dsn_from_environment()
    if not dsn:
        print("name a database in DISTILLERY_DATABASE_URL or DISTILLERY_DATABASE_URL_FILE", file=sys.stderr)
        sys.exit(78)
    try:
        migrate(dsn, *sys.argv[1:2])
    except DatabaseRefused as error:
        print(error, file=sys.stderr)
        sys.exit(78)
    except psycopg.OperationalError as error:
        print(f"the database is away: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
