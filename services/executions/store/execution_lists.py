"""Lists of executions: the columns that filters and sorts may name, and the page they choose (executions.md section 5).

What an execution launched is another service's, but it is kept here by name; so `workflow.name` and the like compare
columns of the execution. A launch plan's or task's other columns cannot be compared.
"""

from collections.abc import Sequence

from flyteidl.admin.execution_pb2 import EXECUTION_ACTIVE, ExecutionMetadata, ExecutionState
from sqlalchemy import ColumnElement, DateTime, and_, cast, exists, null, select

from services.executions.rules.answers import StoredExecution
from services.executions.store.tables import execution_tags, executions
from services.kit.db import Connection, fetch
from services.kit.listing import Column, Condition, Entity, Kind, Listing, Plan

_TAG_ENTITIES = frozenset({"execution_tag", "admin_tag"})
_NEVER = Column(cast(null(), DateTime(timezone=True)), Kind.TIMESTAMP)  # nothing is ever deleted
_STATES = dict(ExecutionState.items())
_MODES = dict(ExecutionMetadata.ExecutionMode.items())


def _launched(code: str, prefix: str) -> Entity:
    parts = ("project", "domain", "name", "version")
    return Entity(code, {part: Column(executions.c[f"{prefix}_{part}"]) for part in parts})


EXECUTION = Entity(
    "e",
    {
        "id": Column(executions.c.id, Kind.INTEGER),
        "created_at": Column(executions.c.created_at, Kind.TIMESTAMP),
        "updated_at": Column(executions.c.updated_at, Kind.TIMESTAMP),
        "deleted_at": _NEVER,
        "execution_project": Column(executions.c.execution_project),
        "execution_domain": Column(executions.c.execution_domain),
        "execution_name": Column(executions.c.execution_name),
        "phase": Column(executions.c.phase),
        "closure": Column(executions.c.closure, Kind.BYTES),
        "spec": Column(executions.c.spec, Kind.BYTES),
        "started_at": Column(executions.c.started_at, Kind.TIMESTAMP),
        "execution_created_at": Column(executions.c.execution_created_at, Kind.TIMESTAMP),
        "execution_updated_at": Column(executions.c.execution_updated_at, Kind.TIMESTAMP),
        "duration": Column(executions.c.duration, Kind.DURATION),
        "abort_cause": Column(executions.c.abort_cause),
        "mode": Column(executions.c.mode, Kind.INTEGER, _MODES),
        "source_execution_id": Column(executions.c.source_execution_id, Kind.INTEGER),
        "parent_node_execution_id": Column(executions.c.parent_node_execution_id, Kind.INTEGER),
        "cluster": Column(executions.c.cluster),
        "inputs_uri": Column(executions.c.inputs_uri),
        "user_inputs_uri": Column(executions.c.user_inputs_uri),
        "error_kind": Column(executions.c.error_kind),
        "error_code": Column(executions.c.error_code),
        "user": Column(executions.c.user),
        "state": Column(executions.c.state, Kind.INTEGER, _STATES),
        "launch_entity": Column(executions.c.launch_entity),
    },
)

LISTING = Listing(
    "execution",
    EXECUTION,
    executions.c.id,
    {
        "launch_plan": _launched("l", "launch_plan"),
        "workflow": _launched("w", "workflow"),
        "task": _launched("t", "task"),
        "admin_tag": Entity(
            "at",
            {
                "id": Column(execution_tags.c.id, Kind.INTEGER),
                "created_at": Column(execution_tags.c.created_at, Kind.TIMESTAMP),
                "updated_at": Column(execution_tags.c.updated_at, Kind.TIMESTAMP),
                "deleted_at": _NEVER,
                "name": Column(execution_tags.c.key),
            },
        ),
        "execution_tag": Entity(
            "et",
            {
                "id": Column(execution_tags.c.id, Kind.INTEGER),
                "created_at": Column(execution_tags.c.created_at, Kind.TIMESTAMP),
                "updated_at": Column(execution_tags.c.updated_at, Kind.TIMESTAMP),
                "deleted_at": _NEVER,
                "execution_project": Column(execution_tags.c.execution_project),
                "execution_domain": Column(execution_tags.c.execution_domain),
                "execution_name": Column(execution_tags.c.execution_name),
                "key": Column(execution_tags.c.key),
                "value": Column(execution_tags.c.value),
            },
        ),
    },
)


async def find(connection: Connection, plan: Plan, project: str, domain: str, name: str) -> list[StoredExecution]:
    """Return the executions that `plan` chooses, active ones only unless it filters by state; any `name` when empty."""
    table = executions.c
    # The page is chosen by indexed columns alone. Rows that an offset skips would otherwise be read, and sorted, with
    # their messages: a quarter of a second for a page deep in a long list.
    page = select(table.id).where(table.execution_project == project, table.execution_domain == domain)
    if name:
        page = page.where(table.execution_name == name)
    if "state" not in plan.filtered_fields:
        page = page.where(table.state == EXECUTION_ACTIVE)
    tags = [condition for condition in plan.conditions if condition.prefix in _TAG_ENTITIES]
    own = [condition.clause for condition in plan.conditions if condition.prefix not in _TAG_ENTITIES]
    page = page.where(*own, *_tagged(tags)).order_by(*plan.order_by).limit(plan.limit).offset(plan.offset)
    chosen = page.subquery("page")
    statement = (
        select(
            table.execution_name,
            table.phase,
            table.spec,
            null(),  # lists show no inputs
            table.closure,
            table.abort_cause,
            table.error_kind.is_not(None),
            table.execution_attributes,
        )
        .join(chosen, chosen.c.id == table.id)
        .order_by(*plan.order_by)
    )
    return [StoredExecution(*row) for row in await fetch(connection, statement)]


def _tagged(conditions: Sequence[Condition]) -> list[ColumnElement[bool]]:
    """Return one EXISTS for each tag that is asked for: a key and a value beside each other are of the same tag.

    The reference joins by name alone, which finds tags of namesakes, and wants one tag to have two keys (5.3).
    """
    groups: list[dict[str, ColumnElement[bool]]] = []
    for condition in conditions:
        column = "key" if condition.prefix == "admin_tag" and condition.column == "name" else condition.column
        if not groups or column in groups[-1]:
            groups.append({})
        groups[-1][column] = condition.clause
    same = and_(
        execution_tags.c.execution_project == executions.c.execution_project,
        execution_tags.c.execution_domain == executions.c.execution_domain,
        execution_tags.c.execution_name == executions.c.execution_name,
    )
    return [exists().where(same, *group.values()) for group in groups]
