"""Embeddings are found by the digest of their text, so that a text of any length has one; indexes for deletions.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"

UP = """
ALTER TABLE embedding ADD COLUMN sha256 bytea;      -- of the text in UTF-8: a B-tree holds no entry above 2,704 bytes
UPDATE embedding SET sha256 = sha256(convert_to(text, 'UTF8'));
ALTER TABLE embedding DROP COLUMN text, ADD PRIMARY KEY (sha256);

CREATE INDEX hint_source_episode ON hint_source (episode_id);
CREATE INDEX hint_twin ON hint (twin_of) WHERE twin_of IS NOT NULL;
"""

DOWN = """
DROP INDEX hint_twin, hint_source_episode;
DROP TABLE embedding;                               -- a cache: what is missing is computed again
CREATE TABLE embedding (
    text       text PRIMARY KEY,
    embedding  halfvec(384) NOT NULL
);
"""


def upgrade() -> None:
    """Change the key, add the indexes."""
    op.execute(UP)


def downgrade() -> None:
    """Empty the cache, whose texts are not kept, and drop the indexes."""
    op.execute(DOWN)
