"""The columns that lists of versions may filter and sort by (lists.md#columns), and queries of pages."""

from collections.abc import Sequence
from typing import Any

from flyteidl.core.identifier_pb2 import ResourceType
from sqlalchemy import ColumnElement, DateTime, Table, cast, literal_column, null, select, true

from services.kit.db.database import Connection
from services.kit.lists.pages import Page
from services.kit.lists.query import Column, Entity, Listing, ListQuery, ValueType
from services.registry.store.launch_plans import message_of
from services.registry.store.tables import launch_plans, named_entities, tasks, workflows
from services.registry.store.version_pages import WORKFLOW_KEY, VersionPage


def base(table: Table) -> dict[str, Column]:
    """Return the columns that every entity of the registry has."""
    return {
        "id": Column(table.c.id, ValueType.INTEGER),
        "created_at": Column(table.c.created_at, ValueType.TIMESTAMP),
        "updated_at": Column(table.c.updated_at, ValueType.TIMESTAMP),
        # Nothing is ever deleted; filters may name the column nevertheless, as in flyteadmin.
        "deleted_at": Column(cast(null(), DateTime(timezone=True)), ValueType.TIMESTAMP),
        "project": Column(table.c.project),
        "domain": Column(table.c.domain),
        "name": Column(table.c.name),
    }


def _version(table: Table) -> dict[str, Column]:
    return {**base(table), "version": Column(table.c.version), "digest": Column(table.c.digest, ValueType.BYTES)}


def _newest_first(table: Table) -> Sequence[ColumnElement[Any]]:
    """Return the order of lists without a sort key, in which clients show versions; indexes have it."""
    return (table.c.created_at.desc(), table.c.id.desc())


def _state_of_name(table: Table, resource_type: ResourceType) -> Column:
    """Return the column for the state of a version's name (registry.md#named-entities)."""
    name = named_entities.alias("name_of_version")

    def related(clause: ColumnElement[bool]) -> ColumnElement[bool]:
        same = (name.c[part] == table.c[part] for part in ("project", "domain", "name"))
        of_type = name.c.resource_type == literal_column(str(resource_type))
        return select(true()).select_from(name).where(of_type, *same, clause).correlate(table).exists()

    return Column(name.c.state, ValueType.INTEGER, related=related)


_TASK_COLUMNS = {
    **_version(tasks),
    "closure": Column(tasks.c.message, ValueType.BYTES),
    "type": Column(tasks.c.type),
    "short_description": Column(tasks.c.short_description),
}
_TASK = Entity("t", {**_TASK_COLUMNS, "state": _state_of_name(tasks, ResourceType.TASK)})
_WORKFLOW_COLUMNS = {
    **_version(workflows),
    "typed_interface": Column(workflows.c.message, ValueType.BYTES),
    "remote_closure_identifier": Column(workflows.c.remote_closure_identifier),
    "short_description": Column(workflows.c.short_description),
}
_WORKFLOW = Entity("w", {**_WORKFLOW_COLUMNS, "state": _state_of_name(workflows, ResourceType.WORKFLOW)})
_LAUNCH_PLAN = Entity(
    "l",
    {
        **_version(launch_plans),
        "spec": Column(launch_plans.c.spec, ValueType.BYTES),
        "workflow_id": Column(launch_plans.c.workflow_id, ValueType.INTEGER),
        "closure": Column(launch_plans.c.closure, ValueType.BYTES),
        "state": Column(launch_plans.c.state, ValueType.INTEGER),
        "schedule_type": Column(launch_plans.c.schedule_type),
        "launch_condition_type": Column(launch_plans.c.launch_condition_type),
    },
)

# The row of a launch plan contains its workflow's key, so filters by that need no join.
_ITS_WORKFLOW = Entity(
    "w",
    {**_WORKFLOW_COLUMNS, **{part: Column(launch_plans.c[f"workflow_{part}"]) for part in WORKFLOW_KEY}},
)

TASKS = Listing("task", _TASK, tie_break=tasks.c.id, default_order=_newest_first(tasks), sort_keys=_TASK_COLUMNS)
WORKFLOWS = Listing(
    "workflow", _WORKFLOW, tie_break=workflows.c.id, default_order=_newest_first(workflows), sort_keys=_WORKFLOW_COLUMNS
)
LAUNCH_PLANS = Listing(
    "launch_plan",
    _LAUNCH_PLAN,
    tie_break=launch_plans.c.id,
    joined={"workflow": _ITS_WORKFLOW},
    default_order=_newest_first(launch_plans),
)


async def find_tasks(connection: Connection, query: ListQuery, project: str, domain: str, *, name: str) -> Page[bytes]:
    """Return the serialized tasks of a page; an empty name is any name."""
    scope = {"project": project, "domain": domain, "name": name}
    rows = await VersionPage(tasks, (tasks.c.message,), scope, query).read(connection)
    return Page((message for (message,) in rows), more=rows.more)


async def find_workflows(
    connection: Connection, query: ListQuery, project: str, domain: str, *, name: str
) -> Page[bytes]:
    """Return the serialized workflows of a page, with the interface only as closure; an empty name is any name."""
    scope = {"project": project, "domain": domain, "name": name}
    rows = await VersionPage(workflows, (workflows.c.message,), scope, query).read(connection)
    return Page((message for (message,) in rows), more=rows.more)


async def find_launch_plans(
    connection: Connection,
    query: ListQuery,
    project: str,
    domain: str,
    *,
    name: str = "",
    active: bool = False,
) -> Page[bytes]:
    """Return the serialized launch plans of a page, all or the active ones; an empty name is any name."""
    columns = (launch_plans.c.spec, launch_plans.c.closure, launch_plans.c.state, launch_plans.c.updated_at)
    scope = {"project": project, "domain": domain, "name": name}
    rows = await VersionPage(launch_plans, columns, scope, query, active=active).read(connection)
    return Page((message_of(*row) for row in rows), more=rows.more)
