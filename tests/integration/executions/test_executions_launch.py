"""Launches over gRPC, with the real projects service and a real database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import psycopg
import pytest
from flyteidl.admin.common_pb2 import Labels, Notification
from flyteidl.admin.execution_pb2 import (
    Execution,
    ExecutionCreateResponse,
    ExecutionMetadata,
    ExecutionRecoverRequest,
    ExecutionRelaunchRequest,
    WorkflowExecutionGetDataRequest,
    WorkflowExecutionGetRequest,
)
from flyteidl.admin.launch_plan_pb2 import CONCURRENCY_LIMIT_BEHAVIOR_SKIP, ConcurrencyPolicy
from flyteidl.admin.matchable_resource_pb2 import WorkflowExecutionConfig
from flyteidl.admin.project_pb2 import InactiveProject, Project, ProjectRegisterRequest
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.security_pb2 import Identity, SecurityContext
from flyteidl.core.types_pb2 import EnumType, LiteralType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.contracts.executions import EXECUTION_CREATED
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import announcements_of
from services.kit.messaging.streams import Delivery
from tests.support.entities import PROJECT, identifier, integer, literals
from tests.support.executions import (
    execution_id,
    generated_launch_plan,
    launch,
    node_id,
    registered_launch_plan,
    registry_with,
)
from tests.support.parts import Parts, Served, service
from tests.support.refusals import detail_of, refused

LIMITED = ConcurrencyPolicy(max=2, behavior=CONCURRENCY_LIMIT_BEHAVIOR_SKIP)
LIMITED_ID = identifier(ResourceType.LAUNCH_PLAN, "limited")


@pytest.fixture(scope="module")
def objects(parts: Parts) -> Path:
    return parts.folder / "launch-objects"


@pytest.fixture(scope="module")
async def served(parts: Parts, objects: Path) -> AsyncIterator[Served]:
    async with AsyncExitStack() as stack:
        projects = await stack.enter_async_context(service("projects", parts, "launch_projects"))
        admin = AdminServiceStub(projects.channel)
        labelled = Project(id="labelled", name="labelled", labels=Labels(values={"team": "a", "tier": "1"}))
        await admin.RegisterProject(ProjectRegisterRequest(project=labelled))
        await admin.RegisterProject(ProjectRegisterRequest(project=Project(id="gone", name="gone")))
        await admin.UpdateProject(Project(id="gone", name="gone", state=Project.ARCHIVED))
        await stack.enter_async_context(
            registry_with(
                parts.nats_url,
                registered_launch_plan(),
                registered_launch_plan("limited", concurrency_policy=LIMITED),
                generated_launch_plan("my.task"),
            )
        )
        yield await stack.enter_async_context(
            service("executions", parts, "launch_executions", objects_url=f"file://{objects}", signing_key="key")
        )


@pytest.fixture(scope="module")
def admin(served: Served) -> AdminServiceStub:
    return AdminServiceStub(served.channel)


async def got(admin: AdminServiceStub, name: str, project: str = PROJECT) -> Execution:
    execution: Execution = await admin.GetExecution(WorkflowExecutionGetRequest(id=execution_id(name, project)))
    return execution


def written(objects: Path) -> set[Path]:
    return set(objects.rglob("*"))


async def inputs_of(admin: AdminServiceStub, name: str) -> LiteralMap:
    reply = await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=execution_id(name)))
    full: LiteralMap = reply.full_inputs
    return full


async def test_launched_execution_can_be_read_at_once(admin: AdminServiceStub) -> None:
    request = launch("readable", labels=Labels(values={"k": "v"}), tags=["nightly"])
    request.spec.metadata.mode = ExecutionMetadata.SCHEDULED
    request.spec.metadata.principal = "placeholder"
    created = await admin.CreateExecution(request)
    assert created.id == execution_id("readable")

    execution = await got(admin, "readable")
    assert execution.id == created.id
    assert execution.closure.phase == WorkflowExecution.UNDEFINED
    assert execution.closure.workflow_id == identifier(ResourceType.WORKFLOW, "wf_lp")
    assert execution.closure.created_at == execution.closure.updated_at
    assert execution.closure.state_change_details.occurred_at == execution.closure.created_at
    assert execution.spec.launch_plan == request.spec.launch_plan
    assert execution.spec.max_parallelism == 25
    assert execution.spec.security_context.HasField("run_as")
    assert execution.spec.labels.values == {"k": "v"}
    assert execution.spec.metadata.mode == ExecutionMetadata.SCHEDULED
    assert execution.spec.metadata.principal == ""
    assert execution.spec.metadata.system_metadata.namespace == f"{PROJECT}-development"
    assert not execution.spec.HasField("inputs")


async def test_inputs_are_completed_with_defaults_and_fixed_inputs(admin: AdminServiceStub) -> None:
    await admin.CreateExecution(launch("complete"))
    assert await inputs_of(admin, "complete") == literals(a=1, b=7, c="fixed")


async def test_inputs_inside_the_spec_are_used_and_stay_there(admin: AdminServiceStub) -> None:
    request = launch("inspec", LiteralMap())
    request.spec.inputs.CopyFrom(literals(a=5))
    await admin.CreateExecution(request)
    assert (await inputs_of(admin, "inspec")).literals["a"] == literals(a=5).literals["a"]
    assert (await got(admin, "inspec")).spec.inputs == literals(a=5)


async def test_name_is_generated_when_none_is_given(admin: AdminServiceStub) -> None:
    created = await admin.CreateExecution(launch())
    assert len(created.id.name) == 20
    assert created.id.name.startswith("a")


async def test_name_in_use_is_refused_and_its_inputs_stay(admin: AdminServiceStub, objects: Path) -> None:
    await admin.CreateExecution(launch("taken", literals(a=1)))
    before = written(objects)
    await refused(admin.CreateExecution(launch("taken", literals(a=2))), grpc.StatusCode.ALREADY_EXISTS)
    assert written(objects) == before
    assert (await inputs_of(admin, "taken")).literals["a"] == literals(a=1).literals["a"]


async def test_one_of_concurrent_launches_with_one_name_wins_with_its_inputs(admin: AdminServiceStub) -> None:
    calls = [admin.CreateExecution(launch("race", literals(a=number))) for number in range(8)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    winners = [number for number, result in enumerate(results) if isinstance(result, ExecutionCreateResponse)]
    assert len(winners) == 1
    codes = {result.code() for result in results if isinstance(result, grpc.aio.AioRpcError)}
    assert codes == {grpc.StatusCode.ALREADY_EXISTS}
    assert (await inputs_of(admin, "race")).literals["a"] == literals(a=winners[0]).literals["a"]


async def test_launched_execution_is_announced(parts: Parts, admin: AdminServiceStub) -> None:
    bus = await Bus.connect(parts.nats_url, "test-launch-announcements")
    payloads: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(delivery: Delivery) -> None:
        await payloads.put(delivery.payload)

    try:
        await bus.declare_stream(announcements_of("executions"))
        await bus.consume(announcements_of("executions"), EXECUTION_CREATED.subject, "test-launch-announcements", take)
        await admin.CreateExecution(launch("announced"))
        async with asyncio.timeout(5):
            while EXECUTION_CREATED.message.FromString(await payloads.get()) != execution_id("announced"):
                pass
    finally:
        await bus.close()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (literals(a=1, x=1), "invalid input x"),
        (literals(a=1, c="mine"), "fixed_inputs c cannot be overridden"),
        (literals(b=1), "expected_inputs a missing"),
        (literals(a="text"), "invalid a input wrong type"),
    ],
)
async def test_invalid_inputs_are_refused(admin: AdminServiceStub, inputs: LiteralMap, message: str) -> None:
    await refused(admin.CreateExecution(launch("wrong", inputs)), grpc.StatusCode.INVALID_ARGUMENT, message)
    await refused(admin.GetExecution(WorkflowExecutionGetRequest(id=execution_id("wrong"))), grpc.StatusCode.NOT_FOUND)


async def test_large_inputs_are_launched_and_hostile_ones_refused(admin: AdminServiceStub) -> None:
    """Both are checked in the CPU pool."""
    many = literals(a=1)
    many.literals["c"].collection.literals.extend([integer(1)] * 5000)
    await refused(
        admin.CreateExecution(launch("much", many)), grpc.StatusCode.INVALID_ARGUMENT, "fixed_inputs c cannot be"
    )
    request = launch("much", LiteralMap())
    request.spec.inputs.CopyFrom(literals(a=1))
    request.spec.annotations.values["long"] = "x" * 100_000
    await admin.CreateExecution(request)
    assert await inputs_of(admin, "much") == literals(a=1, b=7, c="fixed")

    hostile = literals(a=1)
    union = hostile.literals["b"].scalar.union
    union.value.CopyFrom(integer(1))
    enums = [LiteralType(enum_type=EnumType(values=[f"{number} {'x' * 90}"])) for number in range(12_000)]
    union.type.union_type.variants.extend(enums)
    message = "the types of the inputs are too large to compare"
    await refused(admin.CreateExecution(launch("huge", hostile)), grpc.StatusCode.INVALID_ARGUMENT, message)


async def test_archived_project_is_refused_with_the_detail_for_schedulers(admin: AdminServiceStub) -> None:
    error = await refused(
        admin.CreateExecution(launch(project="gone")), grpc.StatusCode.INVALID_ARGUMENT, "project [gone] is not active"
    )
    assert detail_of(error, InactiveProject()).id == "gone"


async def test_unknown_project_is_an_invalid_argument(admin: AdminServiceStub) -> None:
    message = "failed to validate that project [nowhere] and domain [development] are registered"
    await refused(admin.CreateExecution(launch(project="nowhere")), grpc.StatusCode.INVALID_ARGUMENT, message)


async def test_unknown_launch_plan_is_not_found(admin: AdminServiceStub) -> None:
    unknown = identifier(ResourceType.LAUNCH_PLAN, "unknown")
    await refused(admin.CreateExecution(launch(launches=unknown)), grpc.StatusCode.NOT_FOUND)


async def test_single_task_runs_as_its_generated_workflow(admin: AdminServiceStub, served: Served) -> None:
    task = identifier(ResourceType.TASK, "my.task")
    await admin.CreateExecution(launch("single", literals(a="x"), task, tags=["t"]))
    execution = await got(admin, "single")
    assert execution.spec.launch_plan == task
    assert execution.closure.workflow_id == identifier(ResourceType.WORKFLOW, ".flytegen.my.task")
    assert execution.spec.max_parallelism == 0
    async with await psycopg.AsyncConnection.connect(served.settings.database_url) as connection:
        cursor = await connection.execute(
            "SELECT launch_entity, task_name, launch_plan_name, (SELECT count(*) FROM execution_tags AS tag"
            " WHERE tag.execution_name = executions.execution_name) FROM executions WHERE execution_name = 'single'"
        )
        assert await cursor.fetchone() == ("task", "my.task", None, 1)


async def test_concurrent_launches_beyond_a_limit_are_skipped(admin: AdminServiceStub) -> None:
    calls = [admin.CreateExecution(launch(launches=LIMITED_ID)) for _ in range(6)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    refusals = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert len(refusals) == 4
    assert {refusal.code() for refusal in refusals} == {grpc.StatusCode.ALREADY_EXISTS}
    assert "concurrency limit (2) reached for launch plan limited" in str(refusals[0].details())


async def test_labels_of_the_project_are_in_the_configuration_and_not_in_the_spec(
    admin: AdminServiceStub, served: Served
) -> None:
    request = launch("labels", project="labelled", labels=Labels(values={"tier": "9"}))
    await admin.CreateExecution(request)
    assert (await got(admin, "labels", "labelled")).spec.labels.values == {"tier": "9"}
    async with await psycopg.AsyncConnection.connect(served.settings.database_url) as connection:
        cursor = await connection.execute("SELECT execution_config FROM executions WHERE execution_name = 'labels'")
        row = await cursor.fetchone()
    assert row is not None
    assert WorkflowExecutionConfig.FromString(row[0]).labels.values == {"tier": "9", "team": "a"}


async def test_child_of_an_unknown_node_is_not_found(admin: AdminServiceStub) -> None:
    request = launch("orphan")
    request.spec.metadata.parent_node_execution.CopyFrom(node_id("missing", "n0"))
    await refused(admin.CreateExecution(request), grpc.StatusCode.NOT_FOUND, "node execution")


async def test_child_inherits_principal_and_nesting(admin: AdminServiceStub, served: Served) -> None:
    await admin.CreateExecution(launch("parent"))
    async with await psycopg.AsyncConnection.connect(served.settings.database_url, autocommit=True) as connection:
        await connection.execute("""UPDATE executions SET "user" = 'ann' WHERE execution_name = 'parent'""")
        await connection.execute(
            "INSERT INTO node_executions (execution_project, execution_domain, execution_name, node_id, closure,"
            " node_execution_metadata) VALUES (%s, 'development', 'parent', 'n0', '', '')",
            (PROJECT,),
        )
    request = launch("child")
    request.spec.metadata.parent_node_execution.CopyFrom(node_id("parent", "n0"))
    await admin.CreateExecution(request)
    metadata = (await got(admin, "child")).spec.metadata
    assert (metadata.principal, metadata.nesting) == ("ann", 1)


async def test_relaunch_repeats_inputs_and_configuration(admin: AdminServiceStub) -> None:
    run_as = SecurityContext(run_as=Identity(k8s_service_account="robot"))
    notification = Notification(phases=[WorkflowExecution.FAILED])
    notification.email.recipients_email.append("a@example.com")
    original = launch("again", literals(a=3), security_context=run_as, overwrite_cache=True, max_parallelism=4)
    original.spec.notifications.notifications.append(notification)
    await admin.CreateExecution(original)
    await admin.RelaunchExecution(ExecutionRelaunchRequest(id=execution_id("again"), name="again2"))
    execution = await got(admin, "again2")
    assert execution.spec.metadata.mode == ExecutionMetadata.RELAUNCH
    assert execution.spec.metadata.reference_execution == execution_id("again")
    assert execution.spec.security_context.run_as.k8s_service_account == "robot"
    assert execution.spec.max_parallelism == 4
    assert not execution.spec.overwrite_cache
    assert list(execution.closure.notifications) == [notification]
    assert await inputs_of(admin, "again2") == literals(a=3, b=7, c="fixed")


async def test_recovery_refers_to_its_source(admin: AdminServiceStub) -> None:
    await admin.CreateExecution(launch("broken"))
    await admin.RecoverExecution(ExecutionRecoverRequest(id=execution_id("broken"), name="mended"))
    metadata = (await got(admin, "mended")).spec.metadata
    assert metadata.mode == ExecutionMetadata.RECOVERED
    assert metadata.reference_execution == execution_id("broken")


@pytest.mark.parametrize("method", ["RelaunchExecution", "RecoverExecution"])
async def test_missing_execution_cannot_be_repeated(admin: AdminServiceStub, method: str) -> None:
    requests = {"RelaunchExecution": ExecutionRelaunchRequest, "RecoverExecution": ExecutionRecoverRequest}
    call = getattr(admin, method)
    await refused(call(requests[method](id=execution_id("never"))), grpc.StatusCode.NOT_FOUND)
    await refused(call(requests[method](id=execution_id(""))), grpc.StatusCode.INVALID_ARGUMENT, "missing name")
