"""Tasks, workflows, launch plans, names, descriptions, schedules and the outbox."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_KEY = ("project", "domain", "name", "version")


def _row() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    ]


def _texts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _bytes(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.LargeBinary, nullable=False) for name in names]


def _newest_first(table: str) -> None:
    newest = (sa.text("created_at DESC"), sa.text("id DESC"))
    op.create_index(f"{table}_of_name", table, ["project", "domain", "name", *newest])
    op.create_index(f"{table}_of_domain", table, ["project", "domain", *newest])


def upgrade() -> None:
    op.create_table(
        "tasks",
        *_row(),
        *_texts(*_KEY, "type", "short_description"),
        *_bytes("digest", "message"),
        sa.UniqueConstraint(*_KEY, name="tasks_key"),
    )
    _newest_first("tasks")
    op.create_table(
        "workflows",
        *_row(),
        *_texts(*_KEY, "short_description"),
        *_bytes("digest", "request_digest"),
        *_texts("remote_closure_identifier"),
        sa.Column("closure_size", sa.BigInteger, nullable=False),
        *_bytes("message"),
        sa.UniqueConstraint(*_KEY, name="workflows_key"),
    )
    _newest_first("workflows")
    op.create_table(
        "launch_plans",
        *_row(),
        *_texts(*_KEY),
        sa.Column("workflow_id", sa.BigInteger, sa.ForeignKey("workflows.id"), nullable=False),
        sa.Column("state", sa.Integer, nullable=False, server_default="0"),
        *_texts("schedule_type"),
        sa.Column("launch_condition_type", sa.Text),
        *_bytes("digest", "spec", "closure"),
        sa.UniqueConstraint(*_KEY, name="launch_plans_key"),
    )
    _newest_first("launch_plans")
    op.create_index("launch_plans_of_workflow", "launch_plans", ["workflow_id"])
    op.create_index(
        "launch_plans_active",
        "launch_plans",
        ["project", "domain", "name"],
        unique=True,
        postgresql_where=sa.text("state = 1"),
    )
    op.create_table(
        "named_entities",
        *_row(),
        sa.Column("resource_type", sa.Integer, nullable=False),
        *_texts("project", "domain", "name"),
        sa.Column("description", sa.Text),
        sa.Column("state", sa.Integer, nullable=False, server_default="0"),
        sa.UniqueConstraint("resource_type", "project", "domain", "name", name="named_entities_key"),
    )
    op.create_table(
        "description_entities",
        *_row(),
        sa.Column("resource_type", sa.Integer, nullable=False),
        *_texts(*_KEY, "short_description"),
        *_bytes("long_description"),
        *_texts("link"),
        *_bytes("message"),
        sa.UniqueConstraint("resource_type", *_KEY, name="description_entities_key"),
    )
    op.create_table(
        "schedulable_entities",
        *_row(),
        *_texts(*_KEY, "cron_expression"),
        sa.Column("fixed_rate_value", sa.BigInteger, nullable=False),
        sa.Column("unit", sa.Integer, nullable=False),
        *_texts("kickoff_time_input_arg"),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("fired_at", sa.TIMESTAMP(timezone=True)),
        sa.UniqueConstraint(*_KEY, name="schedulable_entities_key"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    for table in (
        "outbox",
        "schedulable_entities",
        "description_entities",
        "named_entities",
        "launch_plans",
        "workflows",
        "tasks",
    ):
        op.drop_table(table)
