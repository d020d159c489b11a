"""Any list request returns the page that a model returns, or is INVALID_ARGUMENT; never anything else."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc
import psycopg
import pytest
from flyteidl.admin import common_pb2, description_entity_pb2, launch_plan_pb2
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.rows import dict_row

from tests.support import entities
from tests.support.entities import DOMAIN, INTEGER, PROJECT, identifier
from tests.support.list_model import Columns, Kind, Refused, Row, Shape, Unspecified, columns, order, select
from tests.support.list_requests import DEFAULT_LIMIT, LARGEST_OFFSET, Asked, list_requests
from tests.support.parts import Parts, Served, service

TASK, WORKFLOW, LAUNCH_PLAN = ResourceType.TASK, ResourceType.WORKFLOW, ResourceType.LAUNCH_PLAN
NAMES = {"alpha": ("v1", "v2", "v3"), "beta": ("v2",), "al%a_": ("v1",), "back\\slash": ("v1",), ".flytegen.x": ("v1",)}
WHERE = common_pb2.NamedEntityIdentifier(project=PROJECT, domain=DOMAIN)

# lists.md#columns; of descriptions the columns that tasks have, too. Versions of tasks and workflows are also filtered
# by the state of their names, and names are sorted by the time of their first version.
KEY = columns("project domain name", base=False)
NAME_KEYS = {**KEY, "created_at": Kind.MOMENT}
STATE = columns("", "state", base=False)
TASKS = columns("project domain name version type short_description", blobs="closure digest")
WORKFLOWS = columns(
    "project domain name version remote_closure_identifier short_description", blobs="typed_interface digest"
)
LAUNCH_PLANS = columns(
    "project domain name version schedule_type launch_condition_type", "state", "spec closure digest", "workflow_id"
)
NAMED = columns("project domain name description", "resource_type state", base=False)
METADATA = columns("project domain name description", "resource_type state")
DESCRIPTIONS = columns("project domain name version short_description link", "resource_type", "long_description")
OF_TASKS = {name: kind for name, kind in TASKS.items() if name in DESCRIPTIONS}
OF_NAME = "named_entity_metadata"

VALUES = (
    *("alpha", "beta", "al%a_", "al", "%a", "a_p%", "back\\slash", "back\\\\slash", ".flytegen%", PROJECT, DOMAIN),
    *("v1", "v2", "python-task", "sql", "CRON", "NONE", "SCHED", "alpha v1", "git/v2", "of beta", "alpha-plan"),
)


@dataclass(frozen=True)
class List:
    """A list: its request, its entities in a response, and the tables whose rows they are."""

    rpc: str
    request: Any = field(repr=False)
    entities: Callable[[Any], list[Any]] = field(repr=False)
    shape: Shape = field(repr=False)
    tables: Mapping[str, str] = field(repr=False)  # by prefix
    default_filters: str = ""

    @property
    def is_of_names(self) -> bool:
        return OF_NAME in self.tables

    def key(self, row: Row) -> tuple[str, str]:
        own = row[self.shape.own]
        return own["name"], "" if self.is_of_names else own["version"]


def newest_first(own: str) -> Callable[[Row], Any]:
    return lambda row: (-row[own]["created_at"].timestamp(), -row[""]["id"])


def by_name(row: Row) -> Any:
    return tuple(row[OF_NAME][column] for column in KEY)


def filtered(own: str, known: Columns) -> Columns:
    """Return the columns of versions that filters may name: of tasks and workflows also the state of the name."""
    return known if own == "launch_plan" else {**known, **STATE}


def of_versions(rpc: str, items: str, own: str, known: Columns, **joined: Columns) -> List:
    shape = Shape(own, {own: filtered(own, known), **joined}, known, newest_first(own))
    tables = {prefix: f"{prefix}s" for prefix in (own, *joined)}
    request = common_pb2.ResourceListRequest(id=WHERE)
    return List(rpc, request, lambda response: list(getattr(response, items)), shape, tables)


def of_ids(rpc: str, own: str, known: Columns, **joined: Columns) -> List:
    shape = Shape(own, {own: filtered(own, known), **joined, OF_NAME: METADATA}, NAME_KEYS, by_name, OF_NAME)
    tables = {prefix: f"{prefix}s" for prefix in (own, *joined)} | {OF_NAME: "named_entities"}
    request = common_pb2.NamedEntityIdentifierListRequest(project=PROJECT, domain=DOMAIN)
    return List(rpc, request, lambda response: list(response.entities), shape, tables)


LISTS = (
    of_versions("ListTasks", "tasks", "task", TASKS),
    of_versions("ListWorkflows", "workflows", "workflow", WORKFLOWS),
    of_versions("ListLaunchPlans", "launch_plans", "launch_plan", LAUNCH_PLANS, workflow=WORKFLOWS),
    of_ids("ListTaskIds", "task", TASKS),
    of_ids("ListWorkflowIds", "workflow", WORKFLOWS),
    of_ids("ListLaunchPlanIds", "launch_plan", LAUNCH_PLANS, workflow=WORKFLOWS),
    List(
        "ListNamedEntities",
        common_pb2.NamedEntityListRequest(resource_type=TASK, project=PROJECT, domain=DOMAIN),
        lambda response: [entity.id for entity in response.entities],
        Shape("entities", {"entities": NAMED, OF_NAME: METADATA}, NAME_KEYS, by_name),
        {"entities": "named_entities", OF_NAME: "named_entities"},
        "not_like(name,.flytegen%)",
    ),
    List(
        "ListDescriptionEntities",
        description_entity_pb2.DescriptionEntityListRequest(resource_type=TASK, id=WHERE),
        lambda response: list(response.descriptionEntities),
        Shape("task", {"task": OF_TASKS}, DESCRIPTIONS, newest_first("task")),
        {"task": "description_entities"},
    ),
)


@pytest.fixture(scope="module")
async def served(parts: Parts) -> AsyncIterator[Served]:
    """Run a registry with a few entities of each kind."""
    objects = f"file://{parts.folder}/registry-properties"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service("projects", parts, "registry_properties_projects"))
        registry = await stack.enter_async_context(
            service("registry", parts, "registry_properties", objects_url=objects)
        )
        admin = AdminServiceStub(registry.channel)
        for name, versions in NAMES.items():
            for version in versions:
                await register(admin, name, version)
        active = identifier(LAUNCH_PLAN, "alpha-plan", "v2")
        await admin.UpdateLaunchPlan(launch_plan_pb2.LaunchPlanUpdateRequest(id=active, state=launch_plan_pb2.ACTIVE))
        for kind, name, state in (
            (TASK, "beta", 1),
            (TASK, "alpha", 0),
            (WORKFLOW, "beta", 2),
            (LAUNCH_PLAN, "beta-plan", 1),
        ):
            metadata = common_pb2.NamedEntityMetadata(description=f"of {name}", state=state)  # type: ignore[arg-type]  # a number of a state
            named = common_pb2.NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name=name)
            await admin.UpdateNamedEntity(
                common_pb2.NamedEntityUpdateRequest(resource_type=kind, id=named, metadata=metadata)
            )
        yield registry


async def register(admin: AdminServiceStub, name: str, version: str) -> None:
    """Register a described task, a workflow of it and a launch plan, which v2 schedules."""
    task = entities.task(name, {"x": INTEGER}, {"o0": INTEGER}, version)
    task.spec.template.type = "python-task" if version == "v1" else "sql"
    task.spec.description.short_description = f"{name} {version}"
    task.spec.description.source_code.link = f"git/{version}"
    await admin.CreateTask(task)
    node = entities.task_node("n0", name, entities.promise("x", "", "x"), version=version)
    outputs = [entities.promise("o0", "n0", "o0")]
    await admin.CreateWorkflow(
        entities.workflow(name, {"x": INTEGER}, {"o0": INTEGER}, [node], outputs, version=version)
    )
    plan = entities.launch_plan(f"{name}-plan", name, {"x": (INTEGER, entities.integer(3))}, None, version)
    if version == "v2":
        plan.spec.entity_metadata.schedule.cron_schedule.schedule = "0 19 * * *"
    await admin.CreateLaunchPlan(plan)


class Tables(dict[str, list[dict[str, Any]]]):
    """Rows by table."""

    def __repr__(self) -> str:
        return "the tables"


@pytest.fixture(scope="module")
def stored(served: Served) -> Tables:
    """Return all rows of the tables that lists read."""
    tables = Tables()
    with psycopg.connect(served.settings.database_url, row_factory=dict_row) as connection:
        for table in ("tasks", "workflows", "launch_plans", "named_entities", "description_entities"):
            rows = connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))).fetchall()
            tables[table] = [row | {"deleted_at": None} for row in rows]
    return tables


def rows_of(made: List, stored: Tables) -> list[Row]:
    """Return the rows that a list reads, each with those of other tables that belong to it."""
    own = made.shape.own
    kind = {"workflow": WORKFLOW, "launch_plan": LAUNCH_PLAN}.get(own, TASK)
    workflows = {row["id"]: row for row in stored["workflows"]}
    names = {row["name"]: row for row in stored["named_entities"] if row["resource_type"] == kind}
    rows: list[Row] = []
    for row in stored[made.tables[own]]:
        if row.get("resource_type", kind) != kind:
            continue
        # A launch plan has a state of its own.
        whole = {own: {"state": names[row["name"]]["state"], **row}, "": row}
        if "workflow" in made.tables and own != "workflow":
            whole["workflow"] = workflows[row["workflow_id"]]
        if made.is_of_names:
            whole |= {OF_NAME: names[row["name"]], "": {"id": row["name"]}}
        rows.append(whole)
    return rows


def expected_of(made: List, stored: Tables, query: Asked) -> list[tuple[str, str]]:
    """Return the keys on the model's page; raise Refused, Unspecified."""
    if query.token not in {"", "0", "1", "+2", str(LARGEST_OFFSET)}:
        raise Refused("token")
    key, direction = query.sort or (None, 0)
    if direction not in {0, 1}:
        raise Refused("direction")
    rows = select(made.shape, rows_of(made, stored), query.filters or made.default_filters)
    # A name is listed once, however many versions it has.
    keys = list(dict.fromkeys(made.key(row) for row in order(made.shape, rows, key, descending=direction == 0)))
    return keys[int(query.token or 0) :][: query.limit or DEFAULT_LIMIT]


REQUESTS = {made.rpc: list_requests(made.shape, VALUES) for made in LISTS}


@st.composite
def chosen_lists(draw: st.DrawFn) -> tuple[List, Asked]:
    """Draw one of the lists, and a request of it."""
    made = draw(st.sampled_from(LISTS))
    return made, draw(REQUESTS[made.rpc])


@settings(max_examples=1000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(chosen=chosen_lists())
async def test_any_list_is_right_or_refused(served: Served, stored: Tables, chosen: tuple[List, Asked]) -> None:
    made, query = chosen
    request = type(made.request)()
    request.CopyFrom(made.request)
    request.filters, request.token, request.limit = query.filters, query.token, query.limit
    if query.sort is not None:
        request.sort_by.key, request.sort_by.direction = query.sort
    call = getattr(AdminServiceStub(served.channel), made.rpc)(request)
    try:
        expected = expected_of(made, stored, query)
    except (Refused, Unspecified) as open_or_bad:
        judged = isinstance(open_or_bad, Refused)
        assert await call.code() in {grpc.StatusCode.INVALID_ARGUMENT} | (set() if judged else {grpc.StatusCode.OK})
        return
    response = await call
    identities = [getattr(entity, "id", entity) for entity in made.entities(response)]
    assert [(identity.name, getattr(identity, "version", "")) for identity in identities] == expected
    following = str(int(query.token or 0) + len(expected))
    assert response.token == (following if len(expected) == (query.limit or DEFAULT_LIMIT) else "")
