"""Values stored by an earlier release that JSON cannot represent: errors name them, the command `repair` drops them."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator

import httpx
import psycopg
import pytest
from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.admin.execution_pb2 import WorkflowExecutionGetRequest
from flyteidl.admin.matchable_resource_pb2 import MatchableResource, MatchingAttributes
from flyteidl.admin.node_execution_pb2 import NodeExecutionListRequest
from flyteidl.admin.project_domain_attributes_pb2 import ProjectDomainAttributesUpdateRequest
from flyteidl.admin.signal_pb2 import SignalGetOrCreateRequest
from flyteidl.core.identifier_pb2 import ResourceType, SignalIdentifier, WorkflowExecutionIdentifier
from flyteidl.core.types_pb2 import LiteralType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flyteidl.service.signal_pb2_grpc import SignalServiceStub

from services.kit.protobuf.readable import MOST_LEVELS
from tests.integration.attacks.running import events, running
from tests.support.entities import DOMAIN, INTEGER, PROJECT, identifier
from tests.support.poisons import deep, fields_to
from tests.support.sandbox import ROOT, Sandbox

pytestmark = pytest.mark.usefixtures("plan")  # which is launched

SCOPE = f"{PROJECT}/{DOMAIN}"
BINARY = {"accept": "application/octet-stream"}
FAR = 2**62
FAULT = f"timestamp (seconds:{FAR} nanos:0) after 9999-12-31"


def environment(sandbox: Sandbox, service: str) -> dict[str, str]:
    lines = (sandbox.folder / "env" / f"{service}.env").read_text().splitlines()
    return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines) if name}


def store(sandbox: Sandbox, service: str, statement: str, *values: object) -> None:
    """Change a row in the database of a service."""
    url = environment(sandbox, service)["FLYTEPLANE_DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute(statement, values).rowcount == 1


def repair(sandbox: Sandbox, service: str, *options: str) -> tuple[int, list[str]]:
    """Run the command; return its exit code and the lines it printed."""
    run = subprocess.run(
        [sys.executable, "-m", f"services.{service}", "repair", *options],
        cwd=ROOT,
        env=os.environ | environment(sandbox, service),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert not run.stderr
    return run.returncode, run.stdout.splitlines()


async def error_of(rest: httpx.AsyncClient, path: str) -> str:
    """Read an entity that cannot be written as JSON; return the message of its INTERNAL error."""
    response = await rest.get(path, params={"limit": "100"})
    assert (response.status_code, response.json()["code"]) == (500, 13)
    message: str = response.json()["message"]
    return message


@pytest.fixture
async def admin(attacked: Sandbox) -> AsyncIterator[AdminServiceStub]:
    async with attacked.channel() as channel:
        yield AdminServiceStub(channel)


@pytest.fixture
async def rest(attacked: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{attacked.url}/api/v1/") as client:
        yield client


@pytest.fixture
async def name(admin: AdminServiceStub) -> WorkflowExecutionIdentifier:
    return await running(admin)


async def test_poisoned_execution_is_named_and_repaired(
    attacked: Sandbox, admin: AdminServiceStub, rest: httpx.AsyncClient, name: WorkflowExecutionIdentifier
) -> None:
    execution = await admin.GetExecution(WorkflowExecutionGetRequest(id=name))
    execution.closure.error.code = "stays"
    execution.closure.error.timestamp.seconds = FAR
    poisoned = execution.closure.SerializeToString()
    store(attacked, "executions", "UPDATE executions SET closure = %s WHERE execution_name = %s", poisoned, name.name)
    message = f"execution {SCOPE}/{name.name} cannot be shown: closure.error.timestamp: {FAULT}"
    for path in (f"executions/{SCOPE}", f"executions/{SCOPE}/{name.name}"):
        assert await error_of(rest, path) == message
        assert poisoned in (await rest.get(path, params={"limit": "100"}, headers=BINARY)).content
    assert (await admin.GetExecution(WorkflowExecutionGetRequest(id=name))).closure == execution.closure

    line = f"executions {SCOPE}/{name.name} closure.error.timestamp: {FAULT}"
    assert repair(attacked, "executions") == (1, [f"found {line}"])
    assert await error_of(rest, f"executions/{SCOPE}") == message
    assert repair(attacked, "executions", "--drop") == (0, [f"dropped {line}"])
    assert repair(attacked, "executions") == (0, [])
    shown = (await rest.get(f"executions/{SCOPE}", params={"limit": "100"})).json()["executions"]
    (closure,) = (each["closure"] for each in shown if each["id"]["name"] == name.name)
    assert (closure["error"]["code"], closure["phase"]) == ("stays", "RUNNING")
    assert "timestamp" not in closure["error"]


async def test_cached_row_is_read_again_after_its_repair(
    attacked: Sandbox, admin: AdminServiceStub, rest: httpx.AsyncClient, name: WorkflowExecutionIdentifier
) -> None:
    """Closures are written from the row cache: the next event must not restore the dropped value."""
    nodes = NodeExecutionListRequest(workflow_execution_id=name, limit=100)
    (node,) = (await admin.ListNodeExecutions(nodes)).node_executions
    node.closure.ClearField("started_at")
    node.closure.created_at.nanos = -1
    statement = "UPDATE node_executions SET closure = %s WHERE execution_name = %s"
    store(attacked, "executions", statement, node.closure.SerializeToString(), name.name)
    path = f"node_executions/{SCOPE}/{name.name}"
    assert (await error_of(rest, path)).startswith(
        f"node execution {SCOPE}/{name.name}/n0 cannot be shown: closure.created_at: "
    )
    assert repair(attacked, "executions", "--drop")[0] == 0
    await admin.CreateNodeEvent(events(name, "SUCCEEDED")["CreateNodeEvent"])
    response = await rest.get(path, params={"limit": "100"})
    (closure,) = (each["closure"] for each in response.json()["nodeExecutions"])
    assert closure["phase"] == "SUCCEEDED"
    assert "createdAt" not in closure
    assert "startedAt" not in closure  # it is still cached


async def test_signal_nested_too_deeply_is_named_and_cut_off(
    attacked: Sandbox, rest: httpx.AsyncClient, name: WorkflowExecutionIdentifier
) -> None:
    gate = SignalGetOrCreateRequest(id=SignalIdentifier(signal_id="gate", execution_id=name), type=INTEGER)
    async with attacked.channel() as channel:
        signals = SignalServiceStub(channel)
        await signals.GetOrCreateSignal(gate)
        into = fields_to(LiteralType(), "collection_type")
        stored = deep(into, into, MOST_LEVELS - 1)
        statement = "UPDATE signals SET type = %s WHERE execution_name = %s"
        store(attacked, "executions", statement, stored, name.name)
        path = f"signals/{SCOPE}/{name.name}"
        message = f"signal {SCOPE}/{name.name}/gate"
        assert await error_of(rest, path) == f"{message} cannot be shown: nested too deeply, or broken"
        status, lines = repair(attacked, "executions", "--drop")
        assert (status, len(lines)) == (0, 1)
        assert lines[0].startswith(f"dropped signals {SCOPE}/{name.name}/gate type.collection_type.")
        assert lines[0].endswith("collection_type: nested too deeply")
        assert (await rest.get(path, params={"limit": "100"})).status_code == 200
        assert (await signals.GetOrCreateSignal(gate)).type.HasField("collection_type")


async def test_poisoned_tasks_and_attributes_are_named_and_repaired(
    attacked: Sandbox, admin: AdminServiceStub, rest: httpx.AsyncClient, name: WorkflowExecutionIdentifier
) -> None:
    assert name
    task = await admin.GetTask(ObjectGetRequest(id=identifier(ResourceType.TASK, "stack.double")))
    task.closure.created_at.FromNanoseconds(0)
    task.closure.created_at.seconds = FAR
    statement = "UPDATE tasks SET message = %s WHERE name = 'stack.double'"
    store(attacked, "registry", statement, task.SerializeToString())
    message = f"task {SCOPE}/stack.double/v1 cannot be shown: closure.created_at: {FAULT}"
    assert await error_of(rest, f"tasks/{SCOPE}/stack.double") == message
    assert repair(attacked, "registry", "--drop") == (
        0,
        [f"dropped tasks {SCOPE}/stack.double/v1 message.closure.created_at: {FAULT}"],
    )
    assert (await rest.get(f"tasks/{SCOPE}", params={"limit": "100"})).is_success

    given = MatchingAttributes()
    given.quality_of_service.spec.queueing_budget.seconds = 1
    attributes = {"project": PROJECT, "domain": DOMAIN, "matching_attributes": given}
    await admin.UpdateProjectDomainAttributes(ProjectDomainAttributesUpdateRequest(attributes=attributes))
    given.quality_of_service.spec.queueing_budget.nanos = -1
    kind = MatchableResource.QUALITY_OF_SERVICE_SPECIFICATION
    statement = "UPDATE matchable_attributes SET attributes = %s WHERE resource_type = %s"
    store(attacked, "projects", statement, given.SerializeToString(), kind)
    path = "matchable_attributes?resource_type=QUALITY_OF_SERVICE_SPECIFICATION"
    response = await rest.get(path)
    assert response.status_code == 500
    message = f"matchable attributes configuration domain {DOMAIN} project {PROJECT}"
    assert response.json()["message"].startswith(f"{message} cannot be shown: attributes.quality_of_service.")
    assert repair(attacked, "projects", "--drop")[0] == 0
    assert (await rest.get(path)).is_success
