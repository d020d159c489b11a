"""Lists of executions: the columns that filters and sorts may name, and the page they choose (executions.md section 5).

What an execution launched is another service's, but it is kept here by name; so `workflow.name` and the like compare
columns of the execution. A launch plan's or task's other columns cannot be compared.
"""

from collections.abc import Callable, Sequence
from typing import Any

from flyteidl.admin.common_pb2 import NamedEntityIdentifier
from flyteidl.admin.execution_pb2 import EXECUTION_ACTIVE, ExecutionMetadata, ExecutionState
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    DateTime,
    Select,
    Table,
    and_,
    bindparam,
    cast,
    exists,
    func,
    literal_column,
    null,
    select,
    true,
)

from services.executions.rules.answers import StoredExecution
from services.executions.store.tables import EXECUTION_KEY, execution_tags, executions
from services.kit.db.database import Connection
from services.kit.lists.pages import Page, RowPage
from services.kit.lists.query import Column, Condition, Entity, Kind, Listing, ListQuery
from services.kit.lists.statements import within

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


# Further down walking over what is newer costs little more than as many entries of each phase.
_MOST_OF_EACH = 2000
_LISTED = (
    executions.c.execution_name,
    executions.c.phase,
    executions.c.spec,
    null(),  # lists show no inputs
    executions.c.closure,
    executions.c.abort_cause,
    executions.c.error_kind.is_not(None),
    executions.c.execution_attributes,
)


async def find(connection: Connection, plan: ListQuery, where: NamedEntityIdentifier) -> Page[StoredExecution]:
    """Return the executions that `plan` chooses, active ones only unless it filters by state; any name when empty."""
    given = zip(EXECUTION_KEY, (where.project, where.domain, where.name), strict=True)
    place = {column: value for column, value in given if value}
    several = _several_phases(plan)

    def filtered(statement: Select[Any]) -> Select[Any]:
        statement = statement.where(*within(executions, place))
        if "state" not in plan.filtered_fields:
            statement = statement.where(executions.c.state == literal_column(str(EXECUTION_ACTIVE)))
        tags = [condition for condition in plan.conditions if condition.prefix in _TAG_ENTITIES]
        own = [one.clause for one in plan.conditions if one.prefix not in _TAG_ENTITIES and one is not several]
        return statement.where(*own, *_tagged(tags))

    def chosen(statement: Select[Any]) -> Select[Any]:
        return filtered(statement) if several is None else statement.where(_first_of_each(several, plan, filtered))

    page = RowPage(executions, _LISTED, plan, chosen, about=several is None, values=place)
    found = await page.read(connection)
    return Page(map(StoredExecution._make, found), cut=found.cut)


def _several_phases(plan: ListQuery) -> Condition | None:
    """Return the filter for several phases of a list that the index by phase has in order, a phase at a time."""
    if plan.order[0] != "created_at" or plan.offset + plan.limit > _MOST_OF_EACH:
        return None
    filters = (one for one in plan.conditions if (one.prefix, one.column) == ("", "phase"))
    return next((one for one in filters if one.function == "value_in" and len(one.value) > 1), None)


def _first_of_each(
    phases: Condition, plan: ListQuery, filtered: Callable[[Select[Any]], Select[Any]]
) -> ColumnElement[bool]:
    """Whether an execution is among the first that a phase has up to the page's end; the page is chosen from these.

    Failures that are few, or all old, would otherwise be looked for among everything that is newer.
    """
    array = bindparam(phases.parameter, type_=ARRAY(executions.c.phase.type))
    rows_needed = select(func.unnest(array).label("phase")).distinct().subquery("wanted")
    end = bindparam("offset", type_=BigInteger) + bindparam("limit", type_=BigInteger)
    first = filtered(select(executions.c.id)).where(executions.c.phase == rows_needed.c.phase)
    first_of_each = first.order_by(*plan.order_by).limit(end).correlate(rows_needed).lateral("first_of_each")
    return executions.c.id.in_(select(first_of_each.c.id).select_from(rows_needed.join(first_of_each, true())))


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
    own = same_execution(execution_tags, executions)
    return [exists().where(own, *group.values()) for group in groups]


def same_execution(one: Table, other: Table) -> ColumnElement[bool]:
    """Whether two rows beside each other belong to one execution."""
    return and_(*(one.c[part] == other.c[part] for part in EXECUTION_KEY))
