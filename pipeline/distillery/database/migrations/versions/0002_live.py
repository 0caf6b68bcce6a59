"""Sessions of users, and the history of what was served to them.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"

UP = """
CREATE TABLE live_session (
    run_id         bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    session        text NOT NULL,                   -- as the client names it
    alias          text NOT NULL,                   -- the model's name for clients
    model          text NOT NULL DEFAULT '',        -- which student answered
    messages       jsonb,                           -- of the longest request; NULL where only the outcome is known
    answer         text NOT NULL DEFAULT '',        -- to it
    turns          integer NOT NULL DEFAULT 0,      -- messages
    success        boolean,                         -- NULL until the client says
    reward         real,
    task           text NOT NULL DEFAULT '',        -- in the client's words
    started_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    used_in_round  integer,                         -- the round that learned from it
    PRIMARY KEY (run_id, session)
);
CREATE INDEX live_session_age ON live_session (run_id, updated_at);
CREATE INDEX live_session_failures ON live_session (run_id) WHERE NOT success AND used_in_round IS NULL;

CREATE TABLE served (
    run_id   bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    since    timestamptz NOT NULL,
    student  text NOT NULL,
    round    integer NOT NULL,
    reason   text NOT NULL DEFAULT '',
    PRIMARY KEY (run_id, since, student)
);
"""

DOWN = """
DROP TABLE served, live_session;
DELETE FROM episode WHERE arm = 'live';
"""


def upgrade() -> None:
    """Create both."""
    op.execute(UP)


def downgrade() -> None:
    """Drop both, and what rounds took over from them."""
    op.execute(DOWN)
