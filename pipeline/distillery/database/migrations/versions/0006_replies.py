"""Why replies ended, and what extraction costs.

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"

UP = """
ALTER TABLE turn ADD COLUMN finish_reason text NOT NULL DEFAULT '';    -- the server's word; '' where it gives none
ALTER TABLE episode ADD COLUMN cut_replies integer;                    -- replies that the server cut
ALTER TABLE extraction
    ADD COLUMN prompt_tokens      integer NOT NULL DEFAULT 0,
    ADD COLUMN completion_tokens  integer NOT NULL DEFAULT 0,
    ADD COLUMN cached_tokens      integer;                             -- NULL where the server does not report them
"""

DOWN = """
ALTER TABLE extraction DROP COLUMN prompt_tokens, DROP COLUMN completion_tokens, DROP COLUMN cached_tokens;
ALTER TABLE episode DROP COLUMN cut_replies;
ALTER TABLE turn DROP COLUMN finish_reason;
"""


def upgrade() -> None:
    """Add the columns."""
    op.execute(UP)


def downgrade() -> None:
    """Drop the columns."""
    op.execute(DOWN)
