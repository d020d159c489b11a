"""Indexes for lists, and a count of archivings; the release before this one is not affected.

Indexes are made concurrently with writers. An incomplete one of an earlier try is replaced.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_Key = str | sa.ColumnElement[Any]

_DOMAIN = ["execution_project", "execution_domain"]
_NEWEST: list[_Key] = [sa.literal_column("created_at DESC"), sa.literal_column("id DESC")]
_CAME = ["created_at", "id"]
_INDEXES: tuple[tuple[str, str, Sequence[_Key], str | None], ...] = (
    ("executions_by_mode", "executions", [*_DOMAIN, "mode", *_NEWEST], None),
    ("executions_by_phase", "executions", [*_DOMAIN, "phase", *_NEWEST], None),
    (
        "node_executions_of_top_level",
        "node_executions",
        [*_DOMAIN, "execution_name", *_CAME],
        "parent_id IS NULL AND parent_task_execution_id IS NULL",
    ),
    ("node_executions_of_parent", "node_executions", ["parent_id", *_CAME], "parent_id IS NOT NULL"),
)
# node_executions_of_parent replaces it; that index has the order that clients request.
_REPLACED = "node_executions_by_parent"

# Only statements that name the column `state` pay for it; those of events do not name it.
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
        for name, table, columns, where in _INDEXES:
            op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)
            op.create_index(
                name, table, columns, postgresql_where=where and sa.text(where), postgresql_concurrently=True
            )
        op.drop_index(_REPLACED, "node_executions", if_exists=True, postgresql_concurrently=True)
    op.create_table(
        "execution_state_changes",
        sa.Column("execution_project", sa.Text(), nullable=False),
        sa.Column("execution_domain", sa.Text(), nullable=False),
        sa.Column("changes", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("execution_project", "execution_domain"),
    )
    op.execute(_TRIGGER)


def downgrade() -> None:
    op.create_index(
        _REPLACED, "node_executions", ["parent_id", "id"], postgresql_where=sa.text("parent_id IS NOT NULL")
    )
    for name, table, _, _ in _INDEXES:
        op.drop_index(name, table)
    op.execute("DROP TRIGGER execution_state_change ON executions; DROP FUNCTION count_execution_state_change()")
    op.drop_table("execution_state_changes")
