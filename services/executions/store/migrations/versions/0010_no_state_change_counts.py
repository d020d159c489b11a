"""Drop the count of archivings: from this release on, no release stores where pages of executions begin.

The release before this one still works. For a page beyond offset 2,000 it reads `execution_state_changes`, and it uses
a stored position only if the count is the same as before. The view of that name has a new count at every read, so that
release finds each such page from the start of its list. A later release drops the view.

The trigger is dropped in a transaction of its own. Readers of the release before lock the count and then `executions`:
a transaction that locks both in the other order can end in a deadlock with them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_VIEW = """
CREATE VIEW execution_state_changes AS
SELECT execution_project, execution_domain, CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) AS changes
FROM executions GROUP BY execution_project, execution_domain
"""
_TRIGGER = """
CREATE FUNCTION count_execution_state_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO execution_state_changes AS known (execution_project, execution_domain, changes)
    VALUES (NEW.execution_project, NEW.execution_domain, 1)
    ON CONFLICT (execution_project, execution_domain) DO UPDATE SET changes = known.changes + 1;
    RETURN NULL;
END $$;
CREATE TRIGGER execution_state_change AFTER UPDATE OF state ON executions
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION count_execution_state_change();
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP TRIGGER IF EXISTS execution_state_change ON executions")
        op.execute("DROP FUNCTION IF EXISTS count_execution_state_change()")
    op.drop_table("execution_state_changes")
    op.execute(_VIEW)


def downgrade() -> None:
    op.execute("DROP VIEW execution_state_changes")
    op.create_table(
        "execution_state_changes",
        sa.Column("execution_project", sa.Text(), nullable=False),
        sa.Column("execution_domain", sa.Text(), nullable=False),
        sa.Column("changes", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("execution_project", "execution_domain"),
    )
    op.execute(_TRIGGER)
