"""Runs, stages, episodes, turns, and the hint bank.

Revision ID: 0001
Revises:
"""

from alembic import op

revision = "0001"
down_revision = None

UP = """
CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE run (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key         text NOT NULL UNIQUE,               -- namespace/name
    document    json NOT NULL,                      -- the resource with every default written out
    created_at  timestamptz NOT NULL DEFAULT now(),
    holder      text                                -- who drives it, for a person to read; the lock is an advisory one
);

CREATE TABLE stage (
    run_id       bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    name         text NOT NULL,
    phase        text NOT NULL CHECK (phase IN ('running', 'succeeded', 'failed')),
    attempts     integer NOT NULL DEFAULT 1,
    permanent    boolean NOT NULL DEFAULT false,
    message      text NOT NULL DEFAULT '',
    result       json,                              -- json, not jsonb: keeps the order of arms
    done         bigint NOT NULL DEFAULT 0,         -- progress, in units
    total        bigint NOT NULL DEFAULT 0,
    unit         text NOT NULL DEFAULT '',
    started_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    PRIMARY KEY (run_id, name)
);

CREATE TABLE episode (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id             bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    round              integer NOT NULL,
    arm                text NOT NULL,
    task_id            text NOT NULL,
    split              text NOT NULL,
    category           text NOT NULL,
    goal               text NOT NULL,
    seed               integer NOT NULL,            -- tells repeated plays of a task apart
    priority           real NOT NULL DEFAULT 0,     -- the longest expected is leased first
    hint_ids           bigint[] NOT NULL DEFAULT '{}',
    hints              text[] NOT NULL DEFAULT '{}',
    -- the lease
    phase              text NOT NULL DEFAULT 'waiting' CHECK (phase IN ('waiting', 'leased', 'finished')),
    worker             text,
    lease              integer NOT NULL DEFAULT 0,  -- counts leases; a worker's result counts only under its own
    lease_until        timestamptz,
    failures           integer NOT NULL DEFAULT 0,  -- attempts that the environment or the server broke
    -- the outcome
    success            boolean,
    score              real,
    stop               text,                        -- why it ended: success, steps, calls, repetition, broken
    error              text,
    steps              integer,
    calls              integer,
    invalid            integer,
    prompt_tokens      bigint,
    completion_tokens  bigint,
    cached_tokens      bigint,                      -- NULL where the server does not report them
    examples           integer,
    opening            text,
    head               jsonb,                       -- the first messages as they were sent
    spans              jsonb,                       -- where in them the hints and the examples stand
    started_at         timestamptz,
    finished_at        timestamptz,
    UNIQUE (run_id, round, arm, task_id, seed)
);
CREATE INDEX episode_queue ON episode (run_id, round, arm, priority DESC, id) WHERE phase <> 'finished';

CREATE TABLE turn (
    episode_id         bigint NOT NULL REFERENCES episode ON DELETE CASCADE,
    index              integer NOT NULL,
    reply              text NOT NULL,
    action             text,                        -- NULL for a thought
    observation        text NOT NULL,
    valid              boolean NOT NULL,
    first_turn         integer NOT NULL,            -- the oldest turn that was in the prompt
    prompt_tokens      integer NOT NULL,
    completion_tokens  integer NOT NULL,
    cached_tokens      integer,
    seconds            real NOT NULL,
    PRIMARY KEY (episode_id, index)
);

CREATE TABLE hint (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bank         text NOT NULL,
    environment  text NOT NULL,
    agent        text NOT NULL,
    category     text NOT NULL DEFAULT '',          -- '' holds for every category
    text         text NOT NULL,
    subject      text NOT NULL DEFAULT '',          -- what it is about, where the extractor knows
    mentions     integer NOT NULL DEFAULT 1,
    twin_of      bigint REFERENCES hint ON DELETE SET NULL,   -- dropped as too similar to this one
    round        integer NOT NULL,
    extractor    text NOT NULL,
    model        text NOT NULL DEFAULT '',
    embedding    halfvec(384) NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (bank, environment, agent, category, text)
);
CREATE INDEX hint_filter ON hint (bank, environment, agent, category) WHERE twin_of IS NULL;
CREATE INDEX hint_embedding ON hint USING hnsw (embedding halfvec_cosine_ops) WHERE twin_of IS NULL;

CREATE TABLE embedding (                            -- of goals and hints, so that each text is embedded once
    text       text PRIMARY KEY,
    embedding  halfvec(384) NOT NULL
);

CREATE TABLE hint_source (
    hint_id     bigint NOT NULL REFERENCES hint ON DELETE CASCADE,
    episode_id  bigint NOT NULL REFERENCES episode ON DELETE CASCADE,
    PRIMARY KEY (hint_id, episode_id)
);

CREATE TABLE extraction (
    episode_id  bigint NOT NULL REFERENCES episode ON DELETE CASCADE,
    extractor   text NOT NULL,
    attempt     integer NOT NULL,
    reply       text NOT NULL,                      -- kept for reading, good or bad
    problem     text NOT NULL DEFAULT '',           -- what was wrong with it
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (episode_id, extractor, attempt)
);
"""

DOWN = """
DROP TABLE extraction, hint_source, embedding, hint, turn, episode, stage, run;
"""  # the extension stays: others may use it


def upgrade() -> None:
    """Create everything."""
    op.execute(UP)


def downgrade() -> None:
    """Drop everything but the extension."""
    op.execute(DOWN)
