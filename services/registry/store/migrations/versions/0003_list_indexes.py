"""Indexes for lists, and in each row of a launch plan the key of its workflow.

The previous release can go on: a trigger fills the new columns of every inserted row. Registrations and activations
wait for the seconds that it takes to fill rows and to create indexes.

The unique keys are created again at the end, so that they are the youngest indexes. In a generic plan PostgreSQL
expects one row of each of several indexes and takes the youngest of those: with another than the key it would read
every version of a name to find one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_NEWEST = (sa.text("created_at DESC"), sa.text("id DESC"))
_PROJECT_DOMAIN = ("project", "domain")
_WORKFLOW = ("workflow_project", "workflow_domain", "workflow_name", "workflow_version")
_ACTIVE = sa.text("state = 1")
_KEYS = {
    **dict.fromkeys(("tasks", "workflows", "launch_plans"), (*_PROJECT_DOMAIN, "name", "version")),
    "named_entities": ("resource_type", *_PROJECT_DOMAIN, "name"),
}

_TRIGGER = """
CREATE FUNCTION launch_plan_workflow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT project, domain, name, version
    INTO NEW.workflow_project, NEW.workflow_domain, NEW.workflow_name, NEW.workflow_version
    FROM workflows WHERE id = NEW.workflow_id;
    RETURN NEW;
END $$;
CREATE TRIGGER launch_plan_workflow BEFORE INSERT ON launch_plans
    FOR EACH ROW EXECUTE FUNCTION launch_plan_workflow();
"""
_FILL = """
UPDATE launch_plans SET workflow_project = workflows.project, workflow_domain = workflows.domain,
    workflow_name = workflows.name, workflow_version = workflows.version
FROM workflows WHERE workflows.id = launch_plans.workflow_id AND launch_plans.workflow_name IS NULL
"""


def upgrade() -> None:
    for column in _WORKFLOW:
        op.add_column("launch_plans", sa.Column(column, sa.Text))
    op.execute(_TRIGGER)
    op.execute(_FILL)
    for column in _WORKFLOW:
        op.alter_column("launch_plans", column, nullable=False)
    for table, also in (("tasks", ["type"]), ("workflows", []), ("launch_plans", [])):
        _replace(f"{table}_of_name", table, ["name"], also=also)
        _replace(f"{table}_of_domain", table, [], also=["name", "version", *also])
        op.create_index(f"{table}_of_version", table, [*_PROJECT_DOMAIN, "version", *_NEWEST])
    workflow_name, workflow_version = _WORKFLOW[2:]
    op.create_index("launch_plans_of_workflow_name", "launch_plans", [*_PROJECT_DOMAIN, workflow_name, *_NEWEST])
    op.create_index(
        "launch_plans_of_workflow_version",
        "launch_plans",
        [*_PROJECT_DOMAIN, workflow_name, workflow_version, *_NEWEST],
    )
    op.create_index(
        "launch_plans_active_of_domain", "launch_plans", [*_PROJECT_DOMAIN, *_NEWEST], postgresql_where=_ACTIVE
    )
    op.create_index(
        "launch_plans_active_of_workflow",
        "launch_plans",
        [*_PROJECT_DOMAIN, workflow_name, *_NEWEST],
        postgresql_where=_ACTIVE,
    )
    op.create_index(
        "named_entities_by_creation",
        "named_entities",
        ["resource_type", *_PROJECT_DOMAIN, "created_at"],
        postgresql_include=["name"],
    )
    op.create_index("named_entities_of_state", "named_entities", ["resource_type", *_PROJECT_DOMAIN, "state", "name"])
    for table, key in _KEYS.items():
        op.drop_constraint(f"{table}_key", table)
        op.create_unique_constraint(f"{table}_key", table, list(key))


def downgrade() -> None:
    op.drop_index("named_entities_of_state", "named_entities")
    op.drop_index("named_entities_by_creation", "named_entities")
    for name in ("active_of_workflow", "active_of_domain", "of_workflow_version", "of_workflow_name"):
        op.drop_index(f"launch_plans_{name}", "launch_plans")
    for table in ("tasks", "workflows", "launch_plans"):
        op.drop_index(f"{table}_of_version", table)
        _replace(f"{table}_of_name", table, ["name"], also=[])
        _replace(f"{table}_of_domain", table, [], also=[])
    op.execute("DROP TRIGGER launch_plan_workflow ON launch_plans; DROP FUNCTION launch_plan_workflow()")
    for column in _WORKFLOW:
        op.drop_column("launch_plans", column)


def _replace(index: str, table: str, keys: list[str], *, also: list[str]) -> None:
    op.drop_index(index, table)
    op.create_index(index, table, [*_PROJECT_DOMAIN, *keys, *_NEWEST], postgresql_include=also)
