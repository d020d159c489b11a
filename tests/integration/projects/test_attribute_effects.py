"""Effects of matchable attributes on executions: every kind at every level, with real services and databases."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import grpc
import psycopg
import pytest
from flyteidl.admin.cluster_assignment_pb2 import ClusterAssignment
from flyteidl.admin.common_pb2 import Labels
from flyteidl.admin.execution_pb2 import (
    ExecutionRelaunchRequest,
    ExecutionSpec,
    WorkflowExecutionGetRequest,
)
from flyteidl.admin.matchable_resource_pb2 import (
    ExecutionClusterLabel,
    ListMatchableAttributesResponse,
    MatchableAttributesConfiguration,
    MatchableResource,
    MatchingAttributes,
    WorkflowExecutionConfig,
)
from flyteidl.admin.project_pb2 import Project, ProjectRegisterRequest
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.core.security_pb2 import Identity, SecurityContext
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf.json_format import MessageToDict

from services.contracts.engine import EngineInputs
from services.contracts.projects import GET_PROJECT_AND_ATTRIBUTES
from services.executions.config import Settings
from services.executions.engine.inputs import engine_inputs, platform_resources
from services.executions.launching.projects import Projects
from services.kit.messaging.bus import Bus
from tests.support.attributes import LEVELS, PROJECT, PROJECT_DOMAIN, WORKFLOW, attributes, delete, put
from tests.support.entities import DOMAIN, identifier, literals
from tests.support.executions import (
    execution_id,
    generated_launch_plan,
    launch,
    registered_launch_plan,
    registry_with,
)
from tests.support.parts import Parts, service
from tests.support.refusals import refused
from tests.support.subscriptions import until_subscribed
from tests.support.waiting import until

KINDS = MatchableResource.keys()
CONFIG, POOL = "WORKFLOW_EXECUTION_CONFIG", "CLUSTER_ASSIGNMENT"
LABEL, QUALITY = "EXECUTION_CLUSTER_LABEL", "QUALITY_OF_SERVICE_SPECIFICATION"
# Of these kinds an execution applies those of its project-domain, not those of its workflow
# (projects.md#use-of-attributes).
OF_DOMAINS = ("CLUSTER_RESOURCE", POOL)
SETS = [chosen for size in (1, 2, 3) for chosen in combinations(LEVELS, size)]
DEFAULT_PARALLELISM = 25
WORKFLOW_NAME = "wf_lp"  # of the launch plan `lp`
TASK = identifier(ResourceType.TASK, "my.task")
PLAIN = Settings(database_url="postgresql://none", nats_url="nats://none", signing_key="key")


@dataclass(frozen=True)
class Stack:
    """The two services and the database of executions."""

    projects: AdminServiceStub
    executions: AdminServiceStub
    database: str

    async def launch(self, project: str, name: str, launches: Identifier | None = None, **spec: Any) -> None:
        inputs = literals(a="x") if launches else literals(a=1)
        await self.executions.CreateExecution(launch(name, inputs, launches, project, **spec))

    async def spec(self, project: str, name: str) -> ExecutionSpec:
        request = WorkflowExecutionGetRequest(id=execution_id(name, project))
        shown: ExecutionSpec = (await self.executions.GetExecution(request)).spec
        return shown

    async def stored(
        self, project: str, name: str
    ) -> tuple[WorkflowExecutionConfig, list[MatchingAttributes], EngineInputs]:
        """Return the stored configuration and attributes of an execution, and its engine inputs."""
        async with await psycopg.AsyncConnection.connect(self.database) as connection:
            cursor = await connection.execute(
                "SELECT execution_config, execution_attributes FROM executions"
                " WHERE execution_project = %s AND execution_name = %s",
                (project, name),
            )
            row = await cursor.fetchone()
        assert row is not None
        applied = ListMatchableAttributesResponse.FromString(row[1]).configurations
        inputs = engine_inputs(row[1], DOMAIN, PLAIN)
        config = WorkflowExecutionConfig.FromString(row[0])
        return config, [configuration.attributes for configuration in applied], inputs


@pytest.fixture(scope="module")
async def stack(parts: Parts) -> AsyncIterator[Stack]:
    async with AsyncExitStack() as opened:
        projects = await opened.enter_async_context(service("projects", parts, "effects_projects"))
        known = (registered_launch_plan(), generated_launch_plan("my.task"))
        await opened.enter_async_context(registry_with(parts.nats_url, *known))
        executions = await opened.enter_async_context(
            service(
                "executions",
                parts,
                "effects_executions",
                objects_url=f"file://{parts.folder / 'effect-objects'}",
                signing_key="key",
            )
        )
        yield Stack(
            AdminServiceStub(projects.channel), AdminServiceStub(executions.channel), executions.settings.database_url
        )


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return iter(range(1000))


@pytest.fixture
async def project(stack: Stack, numbers: Iterator[int]) -> str:
    name = f"effects-{next(numbers)}"
    await stack.projects.RegisterProject(ProjectRegisterRequest(project=Project(id=name, name=name)))
    return name


def winner(kind: str, levels: Sequence[str]) -> int | None:
    """Return the mark of the level that applies when attributes are set at `levels`, each with its index as mark."""
    applied = [level for level in levels if not (kind in OF_DOMAINS and level == WORKFLOW)]
    return 1 + max(map(LEVELS.index, applied)) if applied else None


async def check(stack: Stack, project: str, name: str, kind: str, mark: int | None) -> None:
    """Check that the execution has the attributes of a kind with `mark`, or none of the kind for None."""
    spec = await stack.spec(project, name)
    config, applied, inputs = await stack.stored(project, name)
    expected = MatchingAttributes() if mark is None else attributes(kind, mark)
    if kind == CONFIG:
        parallelism = expected.workflow_execution_config.max_parallelism or DEFAULT_PARALLELISM
        assert config.max_parallelism == parallelism
        # The spec of a single task is that of its request (executions.md#execution-configuration).
        single = spec.launch_plan.resource_type == ResourceType.TASK
        assert spec.max_parallelism == (0 if single else parallelism)
    else:
        member = attributes(kind, 1).WhichOneof("target") or ""
        of_kind = [attributes for attributes in applied if attributes.HasField(member)]
        assert of_kind == ([] if mark is None else [expected])
    if kind == QUALITY:
        assert spec.quality_of_service == expected.quality_of_service
    if kind == LABEL:
        assert spec.execution_cluster_label == expected.execution_cluster_label
    if kind == POOL:
        assert spec.cluster_assignment == expected.cluster_assignment
    if kind == "TASK_RESOURCE":
        default = platform_resources(PLAIN)
        assert inputs.task_resources == (default if mark is None else expected.task_resource_attributes)
    if kind == "EXECUTION_QUEUE":
        assert list(inputs.queue_tags) == list(expected.execution_queue_attributes.tags)
    if kind == "PLUGIN_OVERRIDE":
        assert list(inputs.plugin_overrides) == list(expected.plugin_overrides.overrides)
    if kind == "CLUSTER_RESOURCE":
        assert inputs.cluster_resources == dict(expected.cluster_resource_attributes.attributes)


@pytest.mark.parametrize("levels", SETS, ids="+".join)
@pytest.mark.parametrize("kind", KINDS)
async def test_most_specific_attributes_apply_until_they_are_deleted(
    stack: Stack, project: str, kind: str, levels: tuple[str, ...]
) -> None:
    scope = (project, DOMAIN, WORKFLOW_NAME)
    for level in levels:
        await put(stack.projects, level, scope, attributes(kind, 1 + LEVELS.index(level)))
    remaining = list(levels)
    while True:
        name = f"with-{len(remaining)}"
        await stack.launch(project, name)
        await check(stack, project, name, kind, winner(kind, remaining))
        if not remaining:
            break
        await delete(stack.projects, remaining.pop(), scope, kind)


@pytest.mark.parametrize("launches", [None, TASK], ids=["launch plan", "single task"])
async def test_all_kinds_apply_together_each_from_its_own_level(
    stack: Stack, project: str, launches: Identifier | None
) -> None:
    workflow = ".flytegen.my.task" if launches else WORKFLOW_NAME
    scope = (project, DOMAIN, workflow)
    marks = {}
    for number, kind in enumerate(KINDS):
        levels = SETS[number % len(SETS)]
        for level in levels:
            await put(stack.projects, level, scope, attributes(kind, 1 + LEVELS.index(level)))
        marks[kind] = winner(kind, levels)
    # Neighbours that match another scope.
    for kind in KINDS:
        await put(stack.projects, WORKFLOW, (project, DOMAIN, "other"), attributes(kind, 9))
        await put(stack.projects, PROJECT_DOMAIN, (project, "staging"), attributes(kind, 9))
    await stack.launch(project, "together", launches)
    for kind, mark in marks.items():
        await check(stack, project, "together", kind, mark)
    printed = await command(stack, f"{project}/{DOMAIN}/together")
    _, _, inputs = await stack.stored(project, "together")
    assert (printed["queue_tags"], printed["cluster_resources"]) == (list(inputs.queue_tags), inputs.cluster_resources)
    assert printed["task_resources"] == MessageToDict(inputs.task_resources)
    assert len(printed["plugin_overrides"]) == len(inputs.plugin_overrides)


async def command(stack: Stack, execution: str) -> dict[str, Any]:
    """Return the output of the command `attributes`."""
    environment = os.environ | {"FLYTEPLANE_DATABASE_URL": stack.database, "FLYTEPLANE_SIGNING_KEY": "key"}
    run = [sys.executable, "-m", "services.executions", "attributes", execution]
    process = await asyncio.create_subprocess_exec(*run, env=environment, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    printed: dict[str, Any] = json.loads(output)
    return printed


async def test_configurations_of_all_levels_are_merged(stack: Stack, project: str) -> None:
    def labelled(value: str) -> Labels:
        return Labels(values={"from": value})

    def run_as(account: str) -> SecurityContext:
        return SecurityContext(run_as=Identity(k8s_service_account=account))

    scope = (project, DOMAIN, WORKFLOW_NAME)
    for level, config in (
        (WORKFLOW, WorkflowExecutionConfig(max_parallelism=3)),
        (PROJECT_DOMAIN, WorkflowExecutionConfig(max_parallelism=2, security_context=run_as("of-domain"))),
        (
            PROJECT,
            WorkflowExecutionConfig(
                max_parallelism=1, labels=labelled("project"), security_context=run_as("of-project")
            ),
        ),
    ):
        await put(stack.projects, level, scope, MatchingAttributes(workflow_execution_config=config))
    await stack.launch(project, "merged")
    config, _, _ = await stack.stored(project, "merged")
    assert (config.max_parallelism, config.labels) == (3, labelled("project"))
    assert config.security_context.run_as.k8s_service_account == "of-domain"
    await stack.launch(project, "own", max_parallelism=7, labels=labelled("request"))
    config, _, _ = await stack.stored(project, "own")
    assert (config.max_parallelism, config.labels) == (7, labelled("request"))


async def test_values_of_the_request_override_attributes(stack: Stack, project: str) -> None:
    scope = (project, DOMAIN, WORKFLOW_NAME)
    quality = attributes(QUALITY, 8).quality_of_service
    for kind in (LABEL, QUALITY):
        await put(stack.projects, PROJECT, scope, attributes(kind, 1))
    label = ExecutionClusterLabel(value="own")
    await stack.launch(project, "own", execution_cluster_label=label, quality_of_service=quality)
    spec = await stack.spec(project, "own")
    assert (spec.execution_cluster_label, spec.quality_of_service) == (label, quality)
    assert (await stack.stored(project, "own"))[1] == []


async def test_create_execution_on_another_pool_than_assigned_is_invalid_argument(stack: Stack, project: str) -> None:
    await put(stack.projects, PROJECT_DOMAIN, (project, DOMAIN), attributes(POOL, 1))
    other = ClusterAssignment(cluster_pool_name="other")
    call = stack.launch(project, "refused", cluster_assignment=other)
    await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "cannot run on cluster pool [m1]")
    await stack.launch(project, "same", cluster_assignment=ClusterAssignment(cluster_pool_name="m1"))
    assert (await stack.spec(project, "same")).cluster_assignment.cluster_pool_name == "m1"


async def test_relaunch_applies_current_attributes(stack: Stack, project: str) -> None:
    scope = (project, DOMAIN)
    for kind in (POOL, LABEL, QUALITY):
        await put(stack.projects, PROJECT_DOMAIN, scope, attributes(kind, 1))
    await stack.launch(project, "first")
    await put(stack.projects, PROJECT_DOMAIN, scope, attributes(POOL, 2))
    await delete(stack.projects, PROJECT_DOMAIN, scope, LABEL)
    relaunch = ExecutionRelaunchRequest(id=execution_id("first", project), name="second")
    await stack.executions.RelaunchExecution(relaunch)
    for kind, mark in ((POOL, 2), (LABEL, None), (QUALITY, 1)):
        await check(stack, project, "second", kind, mark)


@pytest.fixture
async def requests(stack: Stack, parts: Parts) -> AsyncIterator[list[bytes]]:
    """Return the list of service requests for projects and attributes that are sent from now on."""
    assert stack  # which serves them
    received: list[bytes] = []

    async def receive(request: bytes) -> None:
        received.append(request)

    subscriber = await Bus.connect(parts.nats_url, "test-effects")
    await subscriber.subscribe(GET_PROJECT_AND_ATTRIBUTES.subject, receive)
    await until_subscribed(subscriber)
    yield received
    await subscriber.close()


async def test_launch_sends_one_service_request_for_its_project(
    stack: Stack, project: str, requests: list[bytes]
) -> None:
    await put(stack.projects, PROJECT, (project,), attributes(LABEL, 1))
    for name in ("first", "second", "third"):
        await stack.launch(project, name)
    await until(lambda: len(requests) >= 3)
    assert len(requests) == 3


async def test_concurrent_launches_share_one_service_request(project: str, parts: Parts, requests: list[bytes]) -> None:
    bus = await Bus.connect(parts.nats_url, "test-effects-together")
    try:
        projects = Projects(bus)
        scope = MatchableAttributesConfiguration(project=project, domain=DOMAIN, workflow="w")
        responses = await asyncio.gather(*(projects.get(scope) for _ in range(20)))
        await until(lambda: len(requests) >= 1)
        assert (len(requests), {response.project.id for response in responses}) == (1, {project})
        await projects.get(scope)  # later, it does not get the same response
        await until(lambda: len(requests) >= 2)
    finally:
        await bus.close()
