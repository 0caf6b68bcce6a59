"""Names of tables, columns and values as the documentation has them, and the host of a run's lock.

Revision ID: 0009
Revises: 0008
"""

from alembic import op

revision = "0009"
down_revision = "0008"

UP = """
ALTER TABLE run RENAME COLUMN holder TO lock_holder;
ALTER TABLE run ADD COLUMN lock_host text;          -- the host of the process that took the lock last
UPDATE run SET lock_host = substring(lock_holder FROM '^process [0-9]+ on (.+) since ');

ALTER TABLE episode RENAME COLUMN stop TO stop_reason;
ALTER TABLE episode RENAME COLUMN opening TO initial_observation;
ALTER TABLE episode RENAME COLUMN head TO prompt_prefix;
ALTER TABLE episode RENAME COLUMN spans TO prompt_spans;
ALTER TABLE episode RENAME COLUMN calls TO turns;
ALTER TABLE episode RENAME COLUMN invalid TO invalid_actions;
UPDATE episode SET stop_reason = 'turns' WHERE stop_reason = 'calls';
UPDATE episode SET arm = 'baseline' WHERE arm = 'base';
UPDATE stage SET name = replace(name, '-evaluate-base', '-evaluate-baseline') WHERE name LIKE 'r%-evaluate-base';

UPDATE hint SET extractor = 'rules' WHERE extractor = 'miner';
ALTER TABLE hint RENAME COLUMN subject TO topic;
ALTER TABLE hint RENAME COLUMN mentions TO support;
ALTER TABLE hint RENAME COLUMN twin_of TO duplicate_of;
ALTER TABLE hint RENAME CONSTRAINT hint_twin_of_fkey TO hint_duplicate_of_fkey;
ALTER INDEX hint_twin RENAME TO hint_duplicate;

ALTER TABLE live_session RENAME TO session;
ALTER TABLE session RENAME COLUMN session TO name;
ALTER TABLE session RENAME COLUMN told_at TO outcome_reported_at;
ALTER TABLE session RENAME COLUMN replied TO has_agent_reply;
ALTER TABLE session RENAME CONSTRAINT live_session_pkey TO session_pkey;
ALTER TABLE session RENAME CONSTRAINT live_session_run_id_fkey TO session_run_id_fkey;
ALTER INDEX live_session_age RENAME TO session_age;
ALTER INDEX live_session_failures RENAME TO session_failures;

ALTER TABLE served RENAME TO serving_history;
ALTER TABLE serving_history RENAME CONSTRAINT served_pkey TO serving_history_pkey;
ALTER TABLE serving_history RENAME CONSTRAINT served_run_id_fkey TO serving_history_run_id_fkey;
"""

DOWN = """
ALTER TABLE serving_history RENAME CONSTRAINT serving_history_run_id_fkey TO served_run_id_fkey;
ALTER TABLE serving_history RENAME CONSTRAINT serving_history_pkey TO served_pkey;
ALTER TABLE serving_history RENAME TO served;

ALTER INDEX session_failures RENAME TO live_session_failures;
ALTER INDEX session_age RENAME TO live_session_age;
ALTER TABLE session RENAME CONSTRAINT session_run_id_fkey TO live_session_run_id_fkey;
ALTER TABLE session RENAME CONSTRAINT session_pkey TO live_session_pkey;
ALTER TABLE session RENAME COLUMN has_agent_reply TO replied;
ALTER TABLE session RENAME COLUMN outcome_reported_at TO told_at;
ALTER TABLE session RENAME COLUMN name TO session;
ALTER TABLE session RENAME TO live_session;

ALTER INDEX hint_duplicate RENAME TO hint_twin;
ALTER TABLE hint RENAME CONSTRAINT hint_duplicate_of_fkey TO hint_twin_of_fkey;
ALTER TABLE hint RENAME COLUMN duplicate_of TO twin_of;
ALTER TABLE hint RENAME COLUMN support TO mentions;
ALTER TABLE hint RENAME COLUMN topic TO subject;
UPDATE hint SET extractor = 'miner' WHERE extractor = 'rules';

UPDATE stage SET name = replace(name, '-evaluate-baseline', '-evaluate-base') WHERE name LIKE 'r%-evaluate-baseline';
UPDATE episode SET arm = 'base' WHERE arm = 'baseline';
UPDATE episode SET stop_reason = 'calls' WHERE stop_reason = 'turns';
ALTER TABLE episode RENAME COLUMN invalid_actions TO invalid;
ALTER TABLE episode RENAME COLUMN turns TO calls;
ALTER TABLE episode RENAME COLUMN prompt_spans TO spans;
ALTER TABLE episode RENAME COLUMN prompt_prefix TO head;
ALTER TABLE episode RENAME COLUMN initial_observation TO opening;
ALTER TABLE episode RENAME COLUMN stop_reason TO stop;

ALTER TABLE run DROP COLUMN lock_host;
ALTER TABLE run RENAME COLUMN lock_holder TO holder;
"""


def upgrade() -> None:
    """Rename, and keep every row."""
    op.execute(UP)


def downgrade() -> None:
    """Rename back, and keep every row; the hosts of locks are dropped."""
    op.execute(DOWN)
