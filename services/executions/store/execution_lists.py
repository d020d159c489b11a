"""ListExecutions: the columns that filters and sorts may name, and the page (lists.md#listexecutions).

Launch plans, workflows and tasks are in the registry's database, but their identifiers are columns of an execution. So
`workflow.name` and the like compare columns of the execution; other columns of those entities cannot be compared.
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

from services.executions.store.executions import StoredExecution
from services.executions.store.tables import EXECUTION_KEY, execution_tags, executions
from services.kit.db.database import Connection
from services.kit.lists.pages import Page, RowPage
from services.kit.lists.query import Column, Condition, Entity, Listing, ListQuery, ValueType
from services.kit.lists.statements import scope_conditions

_TAG_ENTITIES = frozenset({"execution_tag", "admin_tag"})
_NEVER = Column(cast(null(), DateTime(timezone=True)), ValueType.TIMESTAMP)  # nothing is ever deleted
_STATES = dict(ExecutionState.items())
_MODES = dict(ExecutionMetadata.ExecutionMode.items())


def _launched(code: str, prefix: str) -> Entity:
    parts = ("project", "domain", "name", "version")
    return Entity(code, {part: Column(executions.c[f"{prefix}_{part}"]) for part in parts})


EXECUTION = Entity(
    "e",
    {
        "id": Column(executions.c.id, ValueType.INTEGER),
        "created_at": Column(executions.c.created_at, ValueType.TIMESTAMP),
        "updated_at": Column(executions.c.updated_at, ValueType.TIMESTAMP),
        "deleted_at": _NEVER,
        "execution_project": Column(executions.c.execution_project),
        "execution_domain": Column(executions.c.execution_domain),
        "execution_name": Column(executions.c.execution_name),
        "phase": Column(executions.c.phase),
        "closure": Column(executions.c.closure, ValueType.BYTES),
        "spec": Column(executions.c.spec, ValueType.BYTES),
        "started_at": Column(executions.c.started_at, ValueType.TIMESTAMP),
        "execution_created_at": Column(executions.c.execution_created_at, ValueType.TIMESTAMP),
        "execution_updated_at": Column(executions.c.execution_updated_at, ValueType.TIMESTAMP),
        "duration": Column(executions.c.duration, ValueType.DURATION),
        "abort_cause": Column(executions.c.abort_cause),
        "mode": Column(executions.c.mode, ValueType.INTEGER, _MODES),
        "source_execution_id": Column(executions.c.source_execution_id, ValueType.INTEGER),
        "parent_node_execution_id": Column(executions.c.parent_node_execution_id, ValueType.INTEGER),
        "cluster": Column(executions.c.cluster),
        "inputs_uri": Column(executions.c.inputs_uri),
        "user_inputs_uri": Column(executions.c.user_inputs_uri),
        "error_kind": Column(executions.c.error_kind),
        "error_code": Column(executions.c.error_code),
        "user": Column(executions.c.user),
        "state": Column(executions.c.state, ValueType.INTEGER, _STATES),
        "launch_entity": Column(executions.c.launch_entity),
    },
)

LISTING = Listing(
    prefix="execution",
    primary=EXECUTION,
    tie_break=executions.c.id,
    joined={
        "launch_plan": _launched("l", "launch_plan"),
        "workflow": _launched("w", "workflow"),
        "task": _launched("t", "task"),
        "admin_tag": Entity(
            "at",
            {
                "id": Column(execution_tags.c.id, ValueType.INTEGER),
                "created_at": Column(execution_tags.c.created_at, ValueType.TIMESTAMP),
                "updated_at": Column(execution_tags.c.updated_at, ValueType.TIMESTAMP),
                "deleted_at": _NEVER,
                "name": Column(execution_tags.c.key),
            },
            by_subquery=True,
        ),
        "execution_tag": Entity(
            "et",
            {
                "id": Column(execution_tags.c.id, ValueType.INTEGER),
                "created_at": Column(execution_tags.c.created_at, ValueType.TIMESTAMP),
                "updated_at": Column(execution_tags.c.updated_at, ValueType.TIMESTAMP),
                "deleted_at": _NEVER,
                "execution_project": Column(execution_tags.c.execution_project),
                "execution_domain": Column(execution_tags.c.execution_domain),
                "execution_name": Column(execution_tags.c.execution_name),
                "key": Column(execution_tags.c.key),
                "value": Column(execution_tags.c.value),
            },
            by_subquery=True,
        ),
    },
)


# Largest offset + limit that is served phase by phase; beyond it, one scan by creation time is as cheap.
_MOST_BY_PHASE = 2000
# In the order of the fields of StoredExecution.
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


async def find(connection: Connection, query: ListQuery, scope: NamedEntityIdentifier) -> Page[StoredExecution]:
    """Return a page of the executions in `scope`; without archived ones, unless `query` filters by state.

    An empty field of `scope` matches every execution.
    """
    given = zip(EXECUTION_KEY, (scope.project, scope.domain, scope.name), strict=True)
    key = {column: value for column, value in given if value}
    phases = _phases_filter(query)

    def with_conditions(statement: Select[Any]) -> Select[Any]:
        statement = statement.where(*scope_conditions(executions, key))
        if "state" not in query.filtered_fields:
            statement = statement.where(executions.c.state == literal_column(str(EXECUTION_ACTIVE)))
        tags = [condition for condition in query.conditions if condition.prefix in _TAG_ENTITIES]
        own = [item.clause for item in query.conditions if item.prefix not in _TAG_ENTITIES and item is not phases]
        return statement.where(*own, *_tagged(tags))

    def restrict(statement: Select[Any]) -> Select[Any]:
        return (
            with_conditions(statement)
            if phases is None
            else statement.where(_first_of_each(phases, query, with_conditions))
        )

    # `restrict` has these two forms; the rest of the text depends on the shape of the query.
    page = RowPage(executions, _LISTED, query, restrict, cache_key=phases is None, values=key)
    rows = await page.read(connection)
    return Page(map(StoredExecution._make, rows), more=rows.more)


def _phases_filter(query: ListQuery) -> Condition | None:
    """Return the filter for several phases (`value_in`), if its list can be served phase by phase; None otherwise.

    It can when the list is ordered by created_at: the index executions_by_phase has the rows of each phase in order.
    """
    if query.order[0] != "created_at" or query.offset + query.limit > _MOST_BY_PHASE:
        return None
    filters = (condition for condition in query.conditions if (condition.prefix, condition.column) == ("", "phase"))
    return next((item for item in filters if item.function == "value_in" and len(item.value) > 1), None)


def _first_of_each(
    phases: Condition, query: ListQuery, with_conditions: Callable[[Select[Any]], Select[Any]]
) -> ColumnElement[bool]:
    """Return whether an execution is among the first ones of its phase, counted up to the end of the page.

    The page is chosen from these. Otherwise PostgreSQL would read all newer executions to find those of a rare phase.
    """
    array = bindparam(phases.parameter, type_=ARRAY(executions.c.phase.type))
    requested = select(func.unnest(array).label("phase")).distinct().subquery("requested")
    end = bindparam("offset", type_=BigInteger) + bindparam("limit", type_=BigInteger)
    first = with_conditions(select(executions.c.id)).where(executions.c.phase == requested.c.phase)
    first_of_each = first.order_by(*query.order_by).limit(end).correlate(requested).lateral("first_of_each")
    return executions.c.id.in_(select(first_of_each.c.id).select_from(requested.join(first_of_each, true())))


def _tagged(conditions: Sequence[Condition]) -> list[ColumnElement[bool]]:
    """Return one EXISTS for each tag in the filters; a key and a value next to each other are of the same tag.

    flyteadmin joins by name alone, so it finds tags of namesakes, and requires one tag to have two keys
    (lists.md#tag-filters).
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
    """Return the condition that two joined rows belong to one execution."""
    return and_(*(one.c[part] == other.c[part] for part in EXECUTION_KEY))
