"""Who a run is: two runs of one name, one deleted and one created after it, are two.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"

UP = """
ALTER TABLE run
    ADD COLUMN uid uuid NOT NULL DEFAULT gen_random_uuid(),          -- metadata.uid on a cluster
    ADD COLUMN uid_is_provisional boolean NOT NULL DEFAULT true;     -- older than this column: a cluster's comes later
ALTER TABLE run ALTER COLUMN uid_is_provisional SET DEFAULT false;
"""

DOWN = """
ALTER TABLE run DROP COLUMN uid, DROP COLUMN uid_is_provisional;
"""


def upgrade() -> None:
    """Add both; rows that are there get a uid of their own each."""
    op.execute(UP)


def downgrade() -> None:
    """Drop both."""
    op.execute(DOWN)
