"""Who played an episode, and at which temperature: a greedy one is not played twice, but copied.

Revision ID: 0010
Revises: 0009
"""

from alembic import op

revision = "0010"
down_revision = "0009"

UP = """
ALTER TABLE episode ADD COLUMN player text NOT NULL DEFAULT '',  -- base, teacher, or a digest; empty if unknown
                    ADD COLUMN temperature real,
                    ADD COLUMN copied_from bigint REFERENCES episode ON DELETE SET NULL;
CREATE INDEX episode_copied_from ON episode (copied_from) WHERE copied_from IS NOT NULL;
CREATE INDEX episode_greedy ON episode (run_id, player, task_id) WHERE temperature = 0 AND player <> '';
"""

DOWN = """
DROP INDEX episode_greedy;
DROP INDEX episode_copied_from;
ALTER TABLE episode DROP COLUMN copied_from, DROP COLUMN temperature, DROP COLUMN player;
"""


def upgrade() -> None:
    """Add the columns; of existing rows neither player nor temperature is known, and nothing is copied from them."""
    op.execute(UP)


def downgrade() -> None:
    """Drop the columns; copies stay as episodes."""
    op.execute(DOWN)
