"""The time of a session's reported outcome, and whether the session shows the agent's next messages.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"

UP = """
ALTER TABLE live_session
    ADD COLUMN told_at timestamptz,                 -- when the client said how it ended
    ADD COLUMN replied boolean GENERATED ALWAYS AS  -- a message before the last answer is the agent's
        (jsonb_path_exists(messages, '$[*] ? (@.role == "assistant" && @.content != "")')) STORED;
"""

DOWN = """
ALTER TABLE live_session DROP COLUMN told_at, DROP COLUMN replied;
"""


def upgrade() -> None:
    """Add both."""
    op.execute(UP)


def downgrade() -> None:
    """Drop both."""
    op.execute(DOWN)
