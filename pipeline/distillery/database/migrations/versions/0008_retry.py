"""The request to retry that an attempt at a stage answered.

Revision ID: 0008
Revises: 0006
"""

from alembic import op

revision = "0008"
down_revision = "0006"


def upgrade() -> None:
    """Add it."""
    op.execute("ALTER TABLE stage ADD COLUMN retry text NOT NULL DEFAULT ''")


def downgrade() -> None:
    """Drop it."""
    op.execute("ALTER TABLE stage DROP COLUMN retry")
