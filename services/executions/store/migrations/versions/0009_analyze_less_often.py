"""Rarer statistics of the tables that events write, and none of columns that no condition names.

Each row is changed about four times, and each change counts. With the default of a tenth, autovacuum analyzed these
tables whenever they had grown by a fortieth: under load this took a third of PostgreSQL's CPU. The distributions hardly
change.
"""

from alembic import op

revision = "0009"
down_revision = "0008"

# As many changes as there are rows, which is when the table has grown by a quarter.
_CHANGES = 1.0
_TABLES = ("executions", "node_executions", "task_executions", "external_resources", "phase_counts")
# Messages and counts: wide, and only copied.
_NEVER_IN_A_CONDITION = (
    ("executions", "closure"),
    ("executions", "spec"),
    ("node_executions", "closure"),
    ("node_executions", "node_execution_metadata"),
    ("node_executions", "internal_data"),
    ("node_executions", "input_uri"),
    ("node_executions", "dynamic_workflow_remote_closure_reference"),
    ("task_executions", "closure"),
    ("task_executions", "input_uri"),
    ("external_resources", "resources"),
    ("phase_counts", "nodes"),
    ("phase_counts", "tasks"),
)


def upgrade() -> None:
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} SET (autovacuum_analyze_scale_factor = {_CHANGES})")
    for table, column in _NEVER_IN_A_CONDITION:
        op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS 0")


def downgrade() -> None:
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} RESET (autovacuum_analyze_scale_factor)")
    for table, column in _NEVER_IN_A_CONDITION:
        op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS -1")
