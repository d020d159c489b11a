"""Statistics of the tables that events write: seldom renewed, and without the columns that no condition names.

Each row is changed some four times, and each change counts, so that at the usual tenth autovacuum analyzed these tables
at each fortieth by which they grew: under load a third of PostgreSQL's CPU. Their distributions hardly change.
"""

from alembic import op

revision = "0009"
down_revision = "0008"

# As many changes as there are rows: at a quarter more of them.
_CHANGES = 1.0
_TABLES = ("executions", "node_executions", "task_executions", "external_resources", "phase_counts")
# Messages and counts: wide, and only ever copied.
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
