"""No write makes a list unreadable: by no method, in no field, at no depth."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import httpx
import pytest
from flyteidl.admin.common_pb2 import NamedEntityUpdateRequest
from flyteidl.admin.event_pb2 import (
    TaskExecutionEventRequest,
)
from flyteidl.admin.execution_pb2 import (
    ExecutionCreateRequest,
    ExecutionList,
    ExecutionSpec,
    ExecutionTerminateRequest,
    ExecutionUpdateRequest,
)
from flyteidl.admin.matchable_resource_pb2 import MatchingAttributes
from flyteidl.admin.node_execution_pb2 import NodeExecutionList
from flyteidl.admin.project_domain_attributes_pb2 import ProjectDomainAttributesUpdateRequest
from flyteidl.admin.project_pb2 import ProjectRegisterRequest
from flyteidl.admin.signal_pb2 import SignalGetOrCreateRequest, SignalList, SignalSetRequest
from flyteidl.admin.task_execution_pb2 import TaskExecutionList
from flyteidl.admin.task_pb2 import TaskList
from flyteidl.core.identifier_pb2 import (
    ResourceType,
    SignalIdentifier,
    WorkflowExecutionIdentifier,
)
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from gateway import routes
from services.kit.protobuf.readable import MOST_LEVELS, REPLY_LEVELS
from tests.integration.attacks.running import PLAN, events, running
from tests.support import entities
from tests.support.echo_services import METHODS
from tests.support.entities import DOMAIN, INTEGER, PROJECT
from tests.support.poisons import Path, deep, fields_to, groups, path_back, poisoned, texts
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("plan")  # which is launched

WRITES = sorted(method.name for method in routes.load().methods if method.kind == "write")
ADMIN, SIGNALS = "flyteidl.service.AdminService", "flyteidl.service.SignalService"
AT_ONCE = 50
INVALID = grpc.StatusCode.INVALID_ARGUMENT
DEEPEST = MOST_LEVELS - REPLY_LEVELS

Result = tuple[grpc.StatusCode, str]


@pytest.fixture(scope="module")
async def channel(attacked: Sandbox) -> AsyncIterator[grpc.aio.Channel]:
    async with attacked.channel() as opened:
        yield opened


@pytest.fixture(scope="module")
async def rest(attacked: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{attacked.url}/api/v1/") as client:
        yield client


@pytest.fixture(scope="module")
async def execution(channel: grpc.aio.Channel) -> WorkflowExecutionIdentifier:
    return await running(AdminServiceStub(channel))


def events_by_path(name: WorkflowExecutionIdentifier, phase: str) -> dict[str, Message]:
    return {f"{ADMIN}/{method}": event for method, event in events(name, phase).items()}


async def results(channel: grpc.aio.Channel, method: str, requests: Sequence[bytes]) -> list[Result]:
    """Send serialized requests; return code and message of each."""
    call = channel.unary_unary(f"/{method}", request_serializer=bytes, response_deserializer=bytes)

    async def send(request: bytes) -> Result:
        try:
            await call(request, timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        return grpc.StatusCode.OK, ""

    returned: list[Result] = []
    for first in range(0, len(requests), AT_ONCE):
        returned += await asyncio.gather(*map(send, requests[first : first + AT_ONCE]))
    return returned


async def read_all(rest: httpx.AsyncClient, name: WorkflowExecutionIdentifier) -> None:
    """Read every list that may contain the written messages, as JSON and in binary, as Python clients do."""
    where = f"{PROJECT}/{DOMAIN}"
    lists: dict[str, type[Message]] = {
        f"executions/{where}": ExecutionList,
        f"node_executions/{where}/{name.name}": NodeExecutionList,
        f"task_executions/{where}/{name.name}/n0": TaskExecutionList,
        f"signals/{where}/{name.name}": SignalList,
        f"tasks/{where}": TaskList,
    }
    for path, kind in lists.items():
        response = await rest.get(path, params={"limit": "100"})
        assert response.status_code == 200, (path, response.text)
        shown = json_format.Parse(response.text, kind())
        assert shown.ListFields()
        binary = await rest.get(path, params={"limit": "100"}, headers={"accept": "application/octet-stream"})
        assert kind.FromString(binary.content) == shown


@pytest.mark.parametrize("method", WRITES)
async def test_write_refuses_every_poison_in_every_field(channel: grpc.aio.Channel, method: str) -> None:
    kind: Descriptor = METHODS[f"/{method}"].input_type
    poisons = dict(poisoned(kind))
    returned = await results(channel, method, list(poisons.values()))
    accepted = {
        where: (code.name, text)
        for where, (code, text) in zip(poisons, returned, strict=True)
        if code is not INVALID or not text.startswith("invalid value for ")
    }
    assert not accepted
    assert groups(MOST_LEVELS - 2) in poisons.values()


async def test_poisoned_events_and_signals_leave_the_lists_readable(
    channel: grpc.aio.Channel, rest: httpx.AsyncClient, execution: WorkflowExecutionIdentifier
) -> None:
    """A valid request is before the poison; protobuf merges the two."""
    sound = {method: event.SerializeToString() for method, event in events_by_path(execution, "FAILED").items()}
    gate = SignalGetOrCreateRequest(id=SignalIdentifier(signal_id="gate", execution_id=execution), type=INTEGER)
    assert await results(channel, f"{SIGNALS}/GetOrCreateSignal", [gate.SerializeToString()]) == [
        (grpc.StatusCode.OK, "")
    ]
    sound[f"{SIGNALS}/GetOrCreateSignal"] = gate.SerializeToString()
    sound[f"{SIGNALS}/SetSignal"] = SignalSetRequest(id=gate.id, value=entities.integer(1)).SerializeToString()
    for method, request in sound.items():
        poisons = dict(poisoned(METHODS[f"/{method}"].input_type))
        returned = await results(channel, method, [request + poison for poison in poisons.values()])
        assert [where for where, (code, _) in zip(poisons, returned, strict=True) if code is not INVALID] == []
    await read_all(rest, execution)


async def test_poison_at_the_end_of_a_large_request_is_found(channel: grpc.aio.Channel) -> None:
    created = entities.task("large", {}, {})
    created.spec.template.custom.update({f"field {number}": number for number in range(20_000)})
    created.spec.template.custom["last"] = [{"deep": math.nan}]
    (result,) = await results(channel, f"{ADMIN}/CreateTask", [created.SerializeToString()])
    fault = "invalid value for custom: a number that is not finite (spec.template.custom)"
    assert result == (INVALID, fault)


async def test_message_nested_as_deeply_as_allowed_can_be_read(
    channel: grpc.aio.Channel, rest: httpx.AsyncClient, execution: WorkflowExecutionIdentifier
) -> None:
    task = events(execution)["CreateTaskEvent"]
    task.event.phase_version = 1  # type: ignore[attr-defined]  # a TaskExecutionEventRequest
    created = entities.task("deep", {}, {})
    gate = SignalGetOrCreateRequest(id=SignalIdentifier(signal_id="deep", execution_id=execution))
    nested: list[tuple[str, Message, Path]] = [
        (f"{SIGNALS}/GetOrCreateSignal", gate, fields_to(gate, "type")),
        (f"{ADMIN}/CreateTaskEvent", task, fields_to(task, "event.custom_info")),
        (f"{ADMIN}/CreateTaskEvent", task, fields_to(task, "event.metadata.external_resources.custom_info")),
        (f"{ADMIN}/CreateTask", created, fields_to(created, "spec.template.custom")),
    ]
    for number, (method, request, path) in enumerate(nested):
        cycle = path_back(path[-1].message_type)  # type: ignore[arg-type]  # they contain messages
        if isinstance(request, TaskExecutionEventRequest):
            request.event.phase_version = 1 + number
        payload = request.SerializeToString() + deep(path, cycle, DEEPEST)
        (result,) = await results(channel, method, [payload])
        assert result[0] is grpc.StatusCode.OK, (method, result)
    await read_all(rest, execution)


async def test_nul_in_any_text_is_accepted_or_the_callers_fault(
    channel: grpc.aio.Channel, rest: httpx.AsyncClient, execution: WorkflowExecutionIdentifier
) -> None:
    """PostgreSQL accepts none in a text."""
    project = ProjectRegisterRequest(project={"id": "nul", "name": "nul"})
    attributes = MatchingAttributes(execution_queue_attributes={"tags": ["a"]})
    scope: dict[str, Any] = {"project": PROJECT, "domain": DOMAIN}
    sound: dict[str, Message] = {
        **events_by_path(execution, "SUCCEEDED"),
        f"{ADMIN}/CreateTask": entities.task("nul", {}, {}),
        f"{ADMIN}/CreateWorkflow": entities.workflow("nul", {}, {}, [entities.task_node("n0", "stack.double")], []),
        f"{ADMIN}/CreateLaunchPlan": entities.launch_plan("nul", "stack.report"),
        f"{ADMIN}/CreateExecution": ExecutionCreateRequest(**scope, spec=ExecutionSpec(launch_plan=PLAN)),
        f"{ADMIN}/TerminateExecution": ExecutionTerminateRequest(id=execution),
        f"{ADMIN}/UpdateExecution": ExecutionUpdateRequest(id=execution),
        f"{ADMIN}/RegisterProject": project,
        f"{ADMIN}/UpdateProject": project.project,
        f"{ADMIN}/UpdateProjectDomainAttributes": ProjectDomainAttributesUpdateRequest(
            attributes={**scope, "matching_attributes": attributes}
        ),
        f"{ADMIN}/UpdateNamedEntity": NamedEntityUpdateRequest(
            resource_type=ResourceType.TASK, id={**scope, "name": "stack.double"}
        ),
        f"{SIGNALS}/GetOrCreateSignal": SignalGetOrCreateRequest(
            id={"signal_id": "nul", "execution_id": execution}, type=INTEGER
        ),
    }
    outcomes = {}
    for method in WRITES:
        base = sound[method].SerializeToString() if method in sound else b""
        holding = dict(texts(METHODS[f"/{method}"].input_type, "a\0b"))
        returned = await results(channel, method, [base + text for text in holding.values()])
        outcomes.update({f"{method} {where}": result for where, result in zip(holding, returned, strict=True)})
    fair = {grpc.StatusCode.OK, INVALID, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ALREADY_EXISTS}
    fair |= {grpc.StatusCode.FAILED_PRECONDITION}
    assert {where: result for where, result in outcomes.items() if result[0] not in fair} == {}
    await read_all(rest, execution)
