"""The first schema of the executions service."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# Free space on each page lets events rewrite closures without changing an index; a fifth is enough for the handful of
# updates of a node between two vacuums.
_FILLFACTOR = 80


def upgrade() -> None:
    op.create_table(
        "event_lanes",
        sa.Column("lane", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("stream_sequence", sa.BigInteger(), nullable=False),
        sa.Column("verdicts", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("lane"),
    )
    op.create_table(
        "execution_tags",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("execution_project", sa.Text(), nullable=False),
        sa.Column("execution_domain", sa.Text(), nullable=False),
        sa.Column("execution_name", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint(
            "execution_project", "execution_domain", "execution_name", "key", "value", name="execution_tags_key"
        ),
    )
    op.create_index("execution_tags_by_key", "execution_tags", ["key", "value"], unique=False)
    op.create_table(
        "executions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("execution_project", sa.Text(), nullable=False),
        sa.Column("execution_domain", sa.Text(), nullable=False),
        sa.Column("execution_name", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), server_default="", nullable=False),
        sa.Column("spec", sa.LargeBinary(), nullable=False),
        sa.Column("spec_inputs", sa.LargeBinary(), nullable=True),
        sa.Column("closure", sa.LargeBinary(), nullable=False),
        sa.Column("execution_config", sa.LargeBinary(), server_default=sa.text("''::bytea"), nullable=False),
        sa.Column("started_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("execution_created_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("execution_updated_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("duration", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("abort_cause", sa.Text(), server_default="", nullable=False),
        sa.Column("mode", sa.Integer(), server_default="0", nullable=False),
        sa.Column("source_execution_id", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("parent_node_execution_id", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cluster", sa.Text(), server_default="", nullable=False),
        sa.Column("inputs_uri", sa.Text(), server_default="", nullable=False),
        sa.Column("user_inputs_uri", sa.Text(), server_default="", nullable=False),
        sa.Column("error_kind", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("user", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Integer(), server_default="0", nullable=False),
        sa.Column("launch_entity", sa.Text(), server_default="", nullable=False),
        sa.Column("launch_plan_project", sa.Text(), nullable=True),
        sa.Column("launch_plan_domain", sa.Text(), nullable=True),
        sa.Column("launch_plan_name", sa.Text(), nullable=True),
        sa.Column("launch_plan_version", sa.Text(), nullable=True),
        sa.Column("workflow_project", sa.Text(), server_default="", nullable=False),
        sa.Column("workflow_domain", sa.Text(), server_default="", nullable=False),
        sa.Column("workflow_name", sa.Text(), server_default="", nullable=False),
        sa.Column("workflow_version", sa.Text(), server_default="", nullable=False),
        sa.Column("task_project", sa.Text(), nullable=True),
        sa.Column("task_domain", sa.Text(), nullable=True),
        sa.Column("task_name", sa.Text(), nullable=True),
        sa.Column("task_version", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("execution_project", "execution_domain", "execution_name", name="executions_key"),
    )
    op.create_index(
        "executions_active_by_launch_plan",
        "executions",
        ["launch_plan_project", "launch_plan_domain", "launch_plan_name"],
        unique=False,
        postgresql_where=sa.text("phase IN ('UNDEFINED', 'QUEUED', 'RUNNING')"),
    )
    op.create_index(
        "executions_by_creation",
        "executions",
        [
            "execution_project",
            "execution_domain",
            "state",
            sa.literal_column("created_at DESC"),
            sa.literal_column("id DESC"),
        ],
        unique=False,
    )
    op.create_index(
        "executions_by_execution_creation",
        "executions",
        [
            "execution_project",
            "execution_domain",
            "state",
            sa.literal_column("execution_created_at DESC"),
            sa.literal_column("id DESC"),
        ],
        unique=False,
    )
    op.create_index(
        "executions_by_launch_plan",
        "executions",
        [
            "execution_project",
            "execution_domain",
            "launch_plan_name",
            sa.literal_column("created_at DESC"),
            sa.literal_column("id DESC"),
        ],
        unique=False,
        postgresql_where=sa.text("launch_plan_name IS NOT NULL"),
    )
    op.create_index(
        "executions_by_task",
        "executions",
        [
            "execution_project",
            "execution_domain",
            "task_name",
            sa.literal_column("created_at DESC"),
            sa.literal_column("id DESC"),
        ],
        unique=False,
        postgresql_where=sa.text("task_name IS NOT NULL"),
    )
    op.create_index(
        "executions_by_user",
        "executions",
        [
            "execution_project",
            "execution_domain",
            "user",
            sa.literal_column("created_at DESC"),
            sa.literal_column("id DESC"),
        ],
        unique=False,
    )
    op.create_index(
        "executions_by_workflow",
        "executions",
        [
            "execution_project",
            "execution_domain",
            "workflow_name",
            sa.literal_column("created_at DESC"),
            sa.literal_column("id DESC"),
        ],
        unique=False,
    )
    op.create_table(
        "node_executions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("execution_project", sa.Text(), nullable=False),
        sa.Column("execution_domain", sa.Text(), nullable=False),
        sa.Column("execution_name", sa.Text(), nullable=False),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), server_default="", nullable=False),
        sa.Column("input_uri", sa.Text(), server_default="", nullable=False),
        sa.Column("closure", sa.LargeBinary(), nullable=False),
        sa.Column("started_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("node_execution_created_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("node_execution_updated_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("duration", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("node_execution_metadata", sa.LargeBinary(), nullable=False),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("parent_task_execution_id", sa.BigInteger(), nullable=True),
        sa.Column("error_kind", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("cache_status", sa.Text(), nullable=True),
        sa.Column("dynamic_workflow_remote_closure_reference", sa.Text(), server_default="", nullable=False),
        sa.Column("internal_data", sa.LargeBinary(), server_default=sa.text("''::bytea"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint(
            "execution_project", "execution_domain", "execution_name", "node_id", name="node_executions_key"
        ),
    )
    op.create_index(
        "node_executions_by_parent",
        "node_executions",
        ["parent_id", "id"],
        unique=False,
        postgresql_where=sa.text("parent_id IS NOT NULL"),
    )
    op.create_index(
        "node_executions_by_parent_task",
        "node_executions",
        ["parent_task_execution_id", "id"],
        unique=False,
        postgresql_where=sa.text("parent_task_execution_id IS NOT NULL"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "signals",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("execution_project", sa.Text(), nullable=False),
        sa.Column("execution_domain", sa.Text(), nullable=False),
        sa.Column("execution_name", sa.Text(), nullable=False),
        sa.Column("signal_id", sa.Text(), nullable=False),
        sa.Column("type", sa.LargeBinary(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("execution_project", "execution_domain", "execution_name", "signal_id", name="signals_key"),
    )
    op.create_table(
        "task_executions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("execution_project", sa.Text(), nullable=False),
        sa.Column("execution_domain", sa.Text(), nullable=False),
        sa.Column("execution_name", sa.Text(), nullable=False),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("retry_attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("phase", sa.Text(), server_default="", nullable=False),
        sa.Column("phase_version", sa.Integer(), server_default="0", nullable=False),
        sa.Column("input_uri", sa.Text(), server_default="", nullable=False),
        sa.Column("closure", sa.LargeBinary(), nullable=False),
        sa.Column("started_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("task_execution_created_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("task_execution_updated_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("duration", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint(
            "execution_project",
            "execution_domain",
            "execution_name",
            "node_id",
            "retry_attempt",
            "project",
            "domain",
            "name",
            "version",
            name="task_executions_key",
        ),
    )
    for table in ("executions", "node_executions", "task_executions"):
        op.execute(f"ALTER TABLE {table} SET (fillfactor = {_FILLFACTOR})")


def downgrade() -> None:
    for table in (
        "event_lanes",
        "execution_tags",
        "executions",
        "node_executions",
        "outbox",
        "signals",
        "task_executions",
    ):
        op.drop_table(table)
