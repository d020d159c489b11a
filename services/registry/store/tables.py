"""The tables of the registry's database (registry.md#registry-storage).

Versions of tasks, workflows and launch plans never change and are never deleted, except for a launch plan's state. Rows
contain the serialized response, so that reads copy bytes, and the columns that filters and sorts name. Natural keys are
unique; `id` breaks ties in lists and links launch plans to workflows.
"""

from datetime import datetime

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    desc,
    func,
    text,
)

from services.kit.audit.table import audit_table
from services.kit.messaging.outbox_table import outbox_table

metadata = MetaData()

ACTIVE = 1  # admin.LaunchPlanState.ACTIVE, in the form of the partial indexes below


def _row() -> tuple[Column[int], Column[datetime], Column[datetime]]:
    return (
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("created_at", TIMESTAMP(timezone=True), nullable=False, server_default=func.now()),
        Column("updated_at", TIMESTAMP(timezone=True), nullable=False, server_default=func.now()),
    )


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _bytes(name: str) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False)


def _version() -> tuple[Column[str], Column[str], Column[str], Column[str]]:
    return (_text("project"), _text("domain"), _text("name"), _text("version"))


_KEY = ("project", "domain", "name", "version")


def _newest_first(table: Table, *also: str) -> None:
    """Declare indexes for lists of versions, newest first: of one name, of a version or of a whole domain.

    They include `also` and other columns that filters often name: rows that a filter or an offset skips are not read
    from the table. A migration that adds an index beginning with the columns of the key creates the key again after it:
    of indexes that seem equal PostgreSQL takes the youngest (0003_list_indexes.py).
    """
    project_domain = (table.c.project, table.c.domain)
    newest = (desc(table.c.created_at), desc(table.c.id))
    Index(f"{table.name}_of_name", *project_domain, table.c.name, *newest, postgresql_include=list(also))
    Index(f"{table.name}_of_domain", *project_domain, *newest, postgresql_include=["name", "version", *also])
    Index(f"{table.name}_of_version", *project_domain, table.c.version, *newest)


tasks = Table(
    "tasks",
    metadata,
    *_row(),
    *_version(),
    _text("type"),
    _text("short_description"),
    _bytes("digest"),  # equal for the same registration (registry.md#digests)
    _bytes("message"),  # admin.Task as GetTask and ListTasks return it
    UniqueConstraint(*_KEY, name="tasks_key"),
)
_newest_first(tasks, "type")

workflows = Table(
    "workflows",
    metadata,
    *_row(),
    *_version(),
    _text("short_description"),
    _bytes("digest"),
    _bytes("request_digest"),  # of the request as sent: a repeated one need not be compiled again
    _text("remote_closure_identifier"),  # URI of the object with the compiled closure
    Column("closure_size", BigInteger, nullable=False),  # of that object, in bytes
    _bytes("message"),  # admin.Workflow as ListWorkflows returns it: of the closure only the interface
    UniqueConstraint(*_KEY, name="workflows_key"),
)
_newest_first(workflows)

launch_plans = Table(
    "launch_plans",
    metadata,
    *_row(),
    *_version(),
    Column("workflow_id", BigInteger, ForeignKey("workflows.id"), nullable=False),
    # The key of that workflow; filled by a trigger. A filter by it would otherwise join all versions of the workflow.
    *(_text(f"workflow_{part}") for part in _KEY),
    Column("state", Integer, nullable=False, server_default="0"),  # admin.LaunchPlanState
    _text("schedule_type"),  # NONE, CRON or RATE
    Column("launch_condition_type", Text),  # SCHED, or null without a schedule
    _bytes("digest"),
    _bytes("spec"),  # admin.LaunchPlan without its closure: id and spec
    _bytes("closure"),  # admin.LaunchPlanClosure without state and updated_at, which change
    UniqueConstraint(*_KEY, name="launch_plans_key"),
)
_newest_first(launch_plans)
Index("launch_plans_of_workflow", launch_plans.c.workflow_id)
_of_workflow = (launch_plans.c.project, launch_plans.c.domain, launch_plans.c.workflow_name)
_newest = (desc(launch_plans.c.created_at), desc(launch_plans.c.id))
_active = text(f"state = {ACTIVE}")
Index("launch_plans_of_workflow_name", *_of_workflow, *_newest)
Index("launch_plans_of_workflow_version", *_of_workflow, launch_plans.c.workflow_version, *_newest)
Index("launch_plans_active_of_domain", *_of_workflow[:2], *_newest, postgresql_where=_active)
Index("launch_plans_active_of_workflow", *_of_workflow, *_newest, postgresql_where=_active)
# At most one active version of a name, also when versions are activated concurrently (registry.md#updatelaunchplan).
Index(
    "launch_plans_active",
    launch_plans.c.project,
    launch_plans.c.domain,
    launch_plans.c.name,
    unique=True,
    postgresql_where=_active,
)

# One row for each name, inserted with its first version: lists of names would otherwise have to read every version.
# UpdateNamedEntity sets description and state (registry.md#named-entities).
named_entities = Table(
    "named_entities",
    metadata,
    *_row(),
    Column("resource_type", Integer, nullable=False),  # core.ResourceType
    _text("project"),
    _text("domain"),
    _text("name"),
    Column("description", Text),  # null until set, which no filter matches
    Column("state", Integer, nullable=False, server_default="0"),  # admin.NamedEntityState
    UniqueConstraint("resource_type", "project", "domain", "name", name="named_entities_key"),
    # flytectl's lists: by the time of the first version of a name.
    Index(
        "named_entities_by_creation", "resource_type", "project", "domain", "created_at", postgresql_include=["name"]
    ),
    # The console's lists: active or archived ones, by name.
    Index("named_entities_of_state", "resource_type", "project", "domain", "state", "name"),
)

description_entities = Table(
    "description_entities",
    metadata,
    *_row(),
    Column("resource_type", Integer, nullable=False),  # TASK or WORKFLOW
    *_version(),
    _text("short_description"),
    _bytes("long_description"),  # admin.Description
    _text("link"),
    _bytes("message"),  # admin.DescriptionEntity as GetDescriptionEntity returns it
    UniqueConstraint("resource_type", *_KEY, name="description_entities_key"),
)
_described = (description_entities.c.resource_type, description_entities.c.project, description_entities.c.domain)
_latest = (desc(description_entities.c.created_at), desc(description_entities.c.id))
Index("description_entities_of_name", *_described, description_entities.c.name, *_latest)
Index("description_entities_of_domain", *_described, *_latest)

# Schedules of launch plans that are or were active, for a scheduler (registry.md#schedules-fire).
schedulable_entities = Table(
    "schedulable_entities",
    metadata,
    *_row(),  # updated_at is the last activation or deactivation: a scheduler catches up from there
    *_version(),
    _text("cron_expression"),  # empty for a fixed rate
    Column("fixed_rate_value", BigInteger, nullable=False),
    Column("unit", Integer, nullable=False),  # admin.FixedRateUnit
    _text("kickoff_time_input_arg"),
    Column("active", Boolean, nullable=False),
    Column("fired_at", TIMESTAMP(timezone=True)),  # the last scheduled time that fired
    UniqueConstraint(*_KEY, name="schedulable_entities_key"),
)

outbox = outbox_table(metadata)

audit_log = audit_table(metadata)
