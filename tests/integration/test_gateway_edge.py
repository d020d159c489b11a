"""The gateway at its edge: a real Envoy in front of small real servers, seen by REST and gRPC clients."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from flyteidl.admin import (
    event_pb2,
    execution_pb2,
    launch_plan_pb2,
    node_execution_pb2,
    project_attributes_pb2,
    project_pb2,
    task_pb2,
    version_pb2,
)
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import MessageToDict, MessageToJson
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2

from gateway import descriptors, filters, routes
from gateway.bootstrap import Certificate, Settings
from gateway.clusters import Address
from tests.support.echo_services import LARGEST, METHODS, Call, EchoServices, Failure, HttpObjects
from tests.support.envoy import running_gateway
from tests.support.parts import free_port

BINARY = "application/octet-stream"
SNAKE = {"accept": "application/json"}
CAMEL = {"accept": "application/json, text/plain, */*"}  # what browsers' axios sends
BIN = {"accept": BINARY}

HTTP_OF = {1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 13: 500}
NEVER_RAISED = (2, 15)  # services.kit.errors has no class for them
HTTP_OF |= {14: 503, 15: 500, 16: 401}

MIB = 1 << 20
# Callers at once, more than a retry budget of Envoy would let wait for a repeat.
MANY = 300
CHANNEL_OPTIONS = [("grpc.max_metadata_size", MIB), ("grpc.max_receive_message_length", -1)]


@dataclass
class Gateway:
    """A gateway and what stands behind it. The executions service runs twice."""

    rest: httpx.AsyncClient
    channel: grpc.aio.Channel
    services: dict[str, EchoServices]
    second_executions: EchoServices
    objects: HttpObjects
    front: routes.Front  # which answers native gRPC calls

    async def call(self, method: str, request: Message, **options: Any) -> Any:
        path = next(path for path in METHODS if path.endswith(f"/{method}"))
        reply_class = GetMessageClass(METHODS[path].output_type)
        rpc = self.channel.unary_unary(path, type(request).SerializeToString, reply_class.FromString)
        return await rpc(request, timeout=options.pop("timeout", 10), **options)

    def newest_call(self, owner: str) -> Call:
        calls = self.services[owner].calls or self.second_executions.calls
        return calls[-1]


@pytest.fixture(scope="module", params=routes.Front)
async def _gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    front: routes.Front = request.param
    services = {owner: EchoServices() for owner in routes.load().owners}
    second = EchoServices()
    objects = HttpObjects()
    async with contextlib.AsyncExitStack() as serving:
        for service in (*services.values(), second):
            await serving.enter_async_context(service.serving())
        objects_port = await serving.enter_async_context(objects.serving())
        upstreams = {owner: [Address("127.0.0.1", service.port)] for owner, service in services.items()}
        upstreams["executions"].append(Address("127.0.0.1", second.port))
        front_of = {owner: [service.address(front)] for owner, service in services.items()}
        front_of["executions"].append(second.address(front))
        port = free_port()
        settings = Settings(
            listen=Address("127.0.0.1", port),
            admin=Address("127.0.0.1", free_port()),
            upstreams=upstreams,
            fronts={} if front is routes.Front.GRPC else {front: front_of},
            objects=[Address("127.0.0.1", objects_port)],
        )
        folder = tmp_path_factory.mktemp("gateway")
        async with (
            running_gateway(folder, settings) as rest,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS) as channel,
        ):
            yield Gateway(rest, channel, services, second, objects, front)


@pytest.fixture
def gateway(_gateway: Gateway) -> Iterator[Gateway]:
    """Yield the module's gateway with services that have not been asked yet and have no answers of their own."""
    yield _gateway
    for service in (*_gateway.services.values(), _gateway.second_executions):
        service.calls.clear()
        service.answers.clear()


def value_of(message: Any, field: str) -> Any:
    for name in field.split("."):
        message = getattr(message, name)
    return message


def put_value(message: Any, field: str, value: Any) -> None:
    *parents, name = field.split(".")
    setattr(value_of(message, ".".join(parents)) if parents else message, name, value)


def in_path(field: str, number: int) -> Any:
    """Return a value for a path variable, a different one for each."""
    if field.endswith("resource_type"):
        return 2
    return number if field.endswith("retry_attempt") else f"path-{number}"


def in_body(field: str) -> Any:
    return {"resource_type": 1, "retry_attempt": 99}.get(field.rpartition(".")[2], "body")


def rest_cases() -> list[Any]:
    owners = {method.name: method.owner for method in routes.load().methods}
    return [
        pytest.param(owners[pattern.method], pattern, id=f"{pattern.verb} {pattern.shape}")
        for pattern in descriptors.rest_patterns()
    ]


@pytest.mark.parametrize("method", routes.load().methods, ids=lambda method: method.name)
async def test_every_method_reaches_its_owner_by_grpc(gateway: Gateway, method: routes.Method) -> None:
    descriptor = METHODS[f"/{method.name}"]
    await gateway.call(descriptor.name, GetMessageClass(descriptor.input_type)())
    assert gateway.newest_call(method.owner).method == descriptor.name
    assert gateway.newest_call(method.owner).front == gateway.front
    assert sum(len(service.calls) for service in (*gateway.services.values(), gateway.second_executions)) == 1


@pytest.mark.parametrize(("owner", "pattern"), rest_cases())
@pytest.mark.parametrize("form", ["json", "binary", "no body"])
async def test_every_method_is_reached_by_rest_and_its_path_wins_over_its_body(
    gateway: Gateway, owner: str, pattern: descriptors.Pattern, form: str
) -> None:
    method = METHODS[f"/{pattern.method}"]
    request = GetMessageClass(method.input_type)()
    path = pattern.path
    expected = {field: in_path(field, number) for number, field in enumerate(pattern.variables)}
    for field, value in expected.items():
        path = path.replace(f"{{{field}}}", str(value))
        put_value(request, field, in_body(field))
    headers, content = {}, b""
    if pattern.has_body and form == "json":
        headers, content = {"content-type": "application/json"}, MessageToJson(request).encode()
    elif pattern.has_body and form == "binary":
        headers, content = {"content-type": BINARY}, request.SerializeToString()
    reply = await gateway.rest.request(pattern.verb, path, headers=headers, content=content)
    assert reply.status_code == 200, reply.text
    call = gateway.newest_call(owner)
    assert call.method == method.name
    assert {field: value_of(call.request, field) for field in expected} == expected


async def test_values_of_the_body_beside_the_path_arrive(gateway: Gateway) -> None:
    request = execution_pb2.ExecutionTerminateRequest(cause="enough")
    for content, kind in ((b'{"cause":"enough"}', "application/json"), (request.SerializeToString(), BINARY)):
        await gateway.rest.request(
            "DELETE", "/api/v1/executions/p/d/n", content=content, headers={"content-type": kind}
        )
        request.id.project, request.id.domain, request.id.name = "p", "d", "n"
        assert gateway.newest_call("executions").request == request


async def test_nested_messages_of_body_and_path_are_merged(gateway: Gateway) -> None:
    request = project_attributes_pb2.ProjectAttributesUpdateRequest()
    request.attributes.project = "other"
    request.attributes.matching_attributes.execution_cluster_label.value = "gpu"
    await gateway.rest.put(
        "/api/v1/project_attributes/p", content=request.SerializeToString(), headers={"content-type": BINARY}
    )
    request.attributes.project = "p"
    assert gateway.newest_call("projects").request == request
    await gateway.rest.put("/api/v1/project_attributes/p", content=MessageToJson(request).encode())
    assert gateway.newest_call("projects").request == request


async def test_a_body_is_read_in_camel_and_in_snake_case(gateway: Gateway) -> None:
    for body in ({"id": {"resourceType": "TASK"}}, {"id": {"resource_type": "TASK"}}, {"id": {"resource_type": 1}}):
        await gateway.rest.post("/api/v1/tasks", json=body)
        assert gateway.newest_call("registry").request.id.resource_type == 1


async def test_a_binary_body_may_be_answered_in_json_and_the_other_way_round(gateway: Gateway) -> None:
    gateway.services["executions"].answers["CreateExecution"] = execution_of_request
    gateway.second_executions.answers["CreateExecution"] = execution_of_request
    request = execution_pb2.ExecutionCreateRequest(project="p", domain="d", name="n")
    binary = await gateway.rest.post(
        "/api/v1/executions", content=request.SerializeToString(), headers={"content-type": BINARY, **SNAKE}
    )
    assert binary.json()["id"]["name"] == "n"
    json = await gateway.rest.post("/api/v1/executions", json={"project": "p", "name": "n"}, headers=BIN)
    assert json.headers["content-type"] == BINARY
    assert execution_pb2.ExecutionCreateResponse.FromString(json.content).id.name == "n"


def execution_of_request(request: execution_pb2.ExecutionCreateRequest) -> execution_pb2.ExecutionCreateResponse:
    reply = execution_pb2.ExecutionCreateResponse()
    reply.id.project, reply.id.domain, reply.id.name = request.project, request.domain, request.name
    return reply


@pytest.mark.parametrize(
    ("headers", "form"),
    [
        ({"accept": "*/*"}, "camel"),
        (CAMEL, "camel"),
        ({"accept": "application/json; charset=utf-8"}, "camel"),
        (SNAKE, "snake"),
        ({"accept": "*/*", "content-type": "application/json"}, "snake"),
        ({"accept": "*/*", "content-type": "application/json; charset=utf-8"}, "snake"),
        (BIN, "binary"),
        ({"accept": "*/*", "content-type": BINARY}, "binary"),
        ({"accept": "application/json", "content-type": BINARY}, "snake"),
    ],
)
async def test_the_form_of_a_reply_follows_the_reference(gateway: Gateway, headers: dict[str, str], form: str) -> None:
    version = version_pb2.GetVersionResponse()
    version.control_plane_version.Build = "abc"
    gateway.services["projects"].answers["GetVersion"] = lambda _: version
    reply = await gateway.rest.get("/api/v1/version", headers=headers)
    if form == "binary":
        assert reply.headers["content-type"] == BINARY
        assert version_pb2.GetVersionResponse.FromString(reply.content) == version
    else:
        assert reply.headers["content-type"] == "application/json"
        assert list(reply.json()) == ["controlPlaneVersion" if form == "camel" else "control_plane_version"]


async def test_json_shows_what_is_unset_and_writes_64_bit_numbers_as_text(gateway: Gateway) -> None:
    plan = launch_plan_pb2.LaunchPlan()
    plan.spec.labels.values["a"] = "<b>"
    plan.spec.max_parallelism = 3
    plan.closure.created_at.FromJsonString("2024-01-02T03:04:05.100Z")
    gateway.services["registry"].answers["GetLaunchPlan"] = lambda _: plan
    json = (await gateway.rest.get("/api/v1/launch_plans/p/d/n/v")).json()
    assert json["spec"]["maxParallelism"] == 3
    assert json["spec"]["role"] == ""
    assert json["spec"]["labels"] == {"values": {"a": "<b>"}}
    assert json["closure"]["state"] == "INACTIVE"
    assert json["closure"]["createdAt"] == "2024-01-02T03:04:05.100Z"


@pytest.mark.parametrize(
    ("query", "field", "value"),
    [
        ("uniqueParentId=n0", "unique_parent_id", "n0"),
        ("unique_parent_id=n0", "unique_parent_id", "n0"),
        ("limit=25", "limit", 25),
        ("sort_by.key=created_at", "sort_by.key", "created_at"),
        ("sortBy.key=created_at", "sort_by.key", "created_at"),
        ("sort_by.direction=ASCENDING", "sort_by.direction", 1),
        ("sort_by.direction=1", "sort_by.direction", 1),
        ("filters=", "filters", ""),
        ("filters=eq(a,b)%2Beq(c,d)", "filters", "eq(a,b)+eq(c,d)"),
        ("filters=eq(a,b+c)", "filters", "eq(a,b c)"),
        ("filters=eq(a,b%26c%3Dd)", "filters", "eq(a,b&c=d)"),
        ("nobody=knows&limit=2&other.thing=1", "limit", 2),
        ("workflow_execution_id.project=other", "workflow_execution_id.project", "p"),
        ("workflowExecutionId.project=other", "workflow_execution_id.project", "p"),
        ("workflow_execution_id.projec%74=other&limit=1", "workflow_execution_id.project", "p"),
        ("workflow_execution_id%2Eproject=other", "workflow_execution_id.project", "p"),
        ("workflow_execution_id.org=o", "workflow_execution_id.org", "o"),
    ],
)
async def test_query_parameters_are_read_as_the_reference_reads_them(
    gateway: Gateway, query: str, field: str, value: object
) -> None:
    reply = await gateway.rest.get(f"/api/v1/node_executions/p/d/n?{query}")
    assert reply.status_code == 200, reply.text
    assert value_of(gateway.newest_call("executions").request, field) == value


async def test_a_query_beside_a_body_is_ignored(gateway: Gateway) -> None:
    assert (await gateway.rest.put("/api/v1/projects/p?name=query&no.thing=1", json={"description": "d"})).is_success
    assert gateway.newest_call("projects").request == project_pb2.Project(id="p", description="d")


@pytest.mark.parametrize(
    ("segment", "value"),
    [
        ("pr%C3%B6j", "pröj"),
        ("pröj", "pröj"),
        ("a%20b", "a b"),
        ("a+b", "a+b"),
        ("a%2Bb", "a+b"),
        ("v1.2:rc@x", "v1.2:rc@x"),
        ("100%25", "100%"),
        ("verbs", "verbs"),
        ("*", "*"),
    ],
)
async def test_a_path_segment_may_hold_any_text(gateway: Gateway, segment: str, value: str) -> None:
    assert (await gateway.rest.get(f"/api/v1/projects/{segment}")).status_code == 200
    assert gateway.newest_call("projects").request.id == value


@pytest.mark.parametrize(
    ("verb", "path", "status", "code"),
    [
        ("GET", "/api/v1/nothing", 404, 5),
        ("GET", "/", 404, 5),
        ("GET", "/login", 404, 5),
        ("GET", "/api/v1/projects/a/b", 404, 5),
        ("GET", "/api/v1/projects/a%2Fb", 404, 5),
        ("GET", "/api/v1/domains/", 404, 5),
        ("GET", "/flyteidl.service.AdminService/GetProject", 404, 5),
        ("DELETE", "/api/v1/projects", 501, 12),
        ("PATCH", "/api/v1/projects/p", 501, 12),
        ("OPTIONS", "/api/v1/projects", 501, 12),
        ("POST", "/api/v1/executions/p/d/n", 501, 12),
        ("GET", "/api/v1/projects?limit=abc", 400, 3),
        ("GET", "/api/v1/projects/a%zz", 400, 3),
        ("GET", "/api/v1/projects?filters=%2", 400, 3),
        ("GET", "/api/v1/named_entities/PLANT/p/d", 400, 3),
        ("POST", "/api/v1/projects", 400, 3),  # with a body that is no JSON
    ],
)
async def test_what_is_no_request_is_refused_in_json_and_binary(
    gateway: Gateway, verb: str, path: str, status: int, code: int
) -> None:
    content = b"{nonsense" if verb == "POST" else b""
    json = await gateway.rest.request(verb, path, content=content)
    assert (json.status_code, json.headers["content-type"]) == (status, "application/json")
    assert json.json().keys() == {"code", "message", "details"}
    assert (json.json()["code"], json.json()["details"]) == (code, [])
    binary = await gateway.rest.request(verb, path, content=content, headers=BIN)
    assert (binary.status_code, binary.headers["content-type"]) == (status, BINARY)
    assert Status.FromString(binary.content) == Status(code=code, message=json.json()["message"])
    assert not any(service.calls for service in gateway.services.values())


@pytest.mark.parametrize("code", HTTP_OF)
async def test_a_failure_keeps_code_message_and_details(gateway: Gateway, code: int) -> None:
    if gateway.front is routes.Front.LEAN and code in NEVER_RAISED:  # which answers REST calls too
        return
    detail = BadRequest(field_violations=[BadRequest.FieldViolation(field="id", description="is \u00e9")])
    failure = Failure(code, 'no "project" \\ é\nnext line', detail, project_pb2.Project(id="p"))
    gateway.services["projects"].answers["RegisterProject"] = failing(failure)
    json = await gateway.rest.post("/api/v1/projects", json={})
    assert json.status_code == HTTP_OF[code]
    assert json.json() | {"details": []} == {"code": code, "message": failure.status.message, "details": []}
    assert [each["@type"] for each in json.json()["details"]] == [each.type_url for each in failure.status.details]
    binary = await gateway.rest.post("/api/v1/projects", headers=BIN)
    assert binary.status_code == HTTP_OF[code]
    assert Status.FromString(binary.content) == failure.status
    if gateway.front is not routes.Front.GRPC and code in NEVER_RAISED:
        return
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.call("RegisterProject", project_pb2.ProjectRegisterRequest())
    assert caught.value.code().value[0] == code
    assert caught.value.details() == failure.status.message
    assert Status.FromString(details_of(caught.value)) == failure.status


def details_of(error: grpc.aio.AioRpcError) -> bytes:
    metadata: Any = error.trailing_metadata()  # grpc-stubs take it for a plain tuple
    return bytes(metadata["grpc-status-details-bin"])


def failing(failure: Failure) -> Any:
    def answer(_: Message) -> Message:
        raise failure

    return answer


@pytest.mark.parametrize("headers", [CAMEL, BIN])
async def test_a_failure_without_details_has_code_and_message(gateway: Gateway, headers: dict[str, str]) -> None:
    gateway.services["projects"].answers["GetProject"] = failing(Failure(5, "no pröject 100%"))
    reply = await gateway.rest.get("/api/v1/projects/p", headers=headers)
    status = Status.FromString(reply.content) if headers is BIN else Status(**reply.json())
    assert (reply.status_code, status) == (404, Status(code=5, message="no pröject 100%"))
    assert "grpc-message" not in reply.headers


async def test_a_detail_of_an_unknown_type_costs_only_the_detail(gateway: Gateway) -> None:
    unknown = AnyMessage(type_url="type.googleapis.com/acme.Unknown", value=b"\x00")
    gateway.services["projects"].answers["GetProject"] = failing(Failure(9, 'say "é"\n', unknown))
    json = await gateway.rest.get("/api/v1/projects/p")
    assert (json.status_code, json.headers["content-type"]) == (400, "application/json")
    assert json.json() == {"code": 9, "message": 'say "é"\n', "details": []}
    binary = await gateway.rest.get("/api/v1/projects/p", headers=BIN)
    if gateway.front is not routes.Front.LEAN:  # the kit raises details that it knows, and nothing else
        assert Status.FromString(binary.content).details[0] == unknown


async def test_a_long_failure_arrives_whole(gateway: Gateway) -> None:
    failure = Failure(3, "x" * 32_000, project_pb2.Project(id="y" * 60_000))
    gateway.services["registry"].answers["CreateWorkflow"] = failing(failure)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.call("CreateWorkflow", GetMessageClass(METHODS[f"/{ADMIN}/CreateWorkflow"].input_type)())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert Status.FromString(details_of(caught.value)) == failure.status
    assert (await gateway.rest.post("/api/v1/workflows")).json()["message"] == failure.status.message
    assert Status.FromString((await gateway.rest.post("/api/v1/workflows", headers=BIN)).content) == failure.status


ADMIN = "flyteidl.service.AdminService"


async def test_a_list_of_two_megabytes_arrives_in_every_form(gateway: Gateway) -> None:
    projects = project_pb2.Projects(
        projects=[project_pb2.Project(id=f"project-{number}", description="d" * 90) for number in range(20_000)]
    )
    gateway.services["projects"].answers["ListProjects"] = lambda _: projects
    binary = await gateway.rest.get("/api/v1/projects", headers=BIN)
    assert binary.content == projects.SerializeToString()
    assert len(binary.content) > 2 * MIB
    json = await gateway.rest.get("/api/v1/projects")
    assert [project["id"] for project in json.json()["projects"]] == [project.id for project in projects.projects]
    assert await gateway.call("ListProjects", project_pb2.ProjectListRequest()) == projects


async def test_a_request_of_twelve_megabytes_arrives_in_every_form(gateway: Gateway) -> None:
    request = task_pb2.TaskCreateRequest()
    request.spec.template.container.image = "i" * 12 * MIB
    body = request.SerializeToString()
    assert (await gateway.rest.post("/api/v1/tasks", content=body, headers={"content-type": BINARY})).is_success
    assert (await gateway.rest.post("/api/v1/tasks", json=MessageToDict(request))).is_success
    await gateway.call("CreateTask", request)
    assert [call.request == request for call in gateway.services["registry"].calls] == [True] * 3


async def test_an_answer_of_twenty_megabytes_arrives(gateway: Gateway) -> None:
    projects = project_pb2.Projects(projects=[project_pb2.Project(id=str(n), description="d" * MIB) for n in range(20)])
    gateway.services["projects"].answers["ListProjects"] = lambda _: projects
    assert await gateway.call("ListProjects", project_pb2.ProjectListRequest()) == projects
    assert (await gateway.rest.get("/api/v1/projects", headers=BIN)).content == projects.SerializeToString()


async def test_a_request_over_the_limit_of_a_service_is_told_in_the_words_of_grpc(gateway: Gateway) -> None:
    request = task_pb2.TaskCreateRequest()
    request.spec.template.container.image = "i" * (LARGEST + 1)
    if gateway.front is routes.Front.GRPC:  # these servers take everything over gRPC
        await gateway.call("CreateTask", request)
        assert gateway.newest_call("registry").request == request
        return
    with pytest.raises(grpc.aio.AioRpcError, match="message larger than max") as caught:
        await gateway.call("CreateTask", request)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not gateway.services["registry"].calls


async def test_a_compressed_request_is_understood(gateway: Gateway) -> None:
    request = project_pb2.ProjectRegisterRequest(project=project_pb2.Project(id="p" * 1000))
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        await gateway.call("RegisterProject", request, compression=compression)
        assert gateway.newest_call("projects").request == request


async def test_a_request_too_large_to_transcode_is_refused(gateway: Gateway) -> None:
    too_large = bytes(filters.LARGEST_MESSAGE + MIB)
    reply = await gateway.rest.post("/api/v1/tasks", content=too_large, headers={"content-type": BINARY, **SNAKE})
    assert (reply.status_code, reply.json()["code"]) == (413, 8)


async def test_a_service_that_is_away_is_unavailable_and_back_at_once(gateway: Gateway) -> None:
    request = event_pb2.NodeExecutionEventRequest()
    async with gateway.services["events"].away():
        rpc = asyncio.create_task(gateway.call("CreateNodeEvent", request))
        rest, binary = await asyncio.gather(
            gateway.rest.post("/api/v1/events/nodes"),
            gateway.rest.post("/api/v1/events/nodes", headers=BIN),
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rpc
        assert (rest.status_code, rest.json()["code"]) == (503, 14)
        assert (binary.status_code, Status.FromString(binary.content).code) == (503, 14)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await gateway.call("CreateNodeEvent", request)
    assert (await gateway.rest.post("/api/v1/events/nodes")).is_success


@contextlib.asynccontextmanager
async def stranger(port: int, says: bytes) -> AsyncIterator[None]:
    """Have something else on a port: it reads a little, says its word and hangs up."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(says)
        writer.close()

    async with await asyncio.start_server(connection, "127.0.0.1", port):
        yield


@pytest.mark.parametrize(
    "says",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nno",
        b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n",
    ],
)
async def test_what_does_not_answer_as_a_service_is_unavailable(gateway: Gateway, says: bytes) -> None:
    service = gateway.services["projects"]
    async with contextlib.AsyncExitStack() as strange:
        await strange.enter_async_context(service.away())
        for front in routes.Front:
            await strange.enter_async_context(stranger(service.address(front).port, says))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gateway.call("RegisterProject", project_pb2.ProjectRegisterRequest())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        reply = await gateway.rest.post("/api/v1/projects")
        assert reply.status_code in {502, 503}
        assert reply.json()["code"] == 14


async def test_a_restart_is_waited_for(gateway: Gateway) -> None:
    async with gateway.services["projects"].away():
        write = asyncio.create_task(gateway.call("RegisterProject", project_pb2.ProjectRegisterRequest()))
        read = asyncio.create_task(gateway.call("ListProjects", project_pb2.ProjectListRequest()))
        await asyncio.wait([write, read], timeout=0.05)
        assert not write.done()
        assert not read.done()
    await asyncio.gather(write, read)
    assert sorted(call.method for call in gateway.services["projects"].calls) == ["ListProjects", "RegisterProject"]


async def test_a_restart_is_waited_for_by_however_many(gateway: Gateway) -> None:
    request = project_pb2.ProjectRegisterRequest()
    async with gateway.services["projects"].away():
        calls = [asyncio.create_task(gateway.call("RegisterProject", request)) for _ in range(MANY)]
        await asyncio.wait(calls, timeout=0.1)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    # Pauses are random: a few are unlucky and have had all their tries.
    assert sum(isinstance(answer, Exception) for answer in answers) < MANY / 20


async def test_one_of_two_servers_away_is_not_noticed(gateway: Gateway) -> None:
    request = execution_pb2.ExecutionCreateRequest()
    for _ in range(4):
        await gateway.call("CreateExecution", request)
    assert gateway.services["executions"].calls
    assert gateway.second_executions.calls
    async with gateway.second_executions.away():
        for _ in range(10):
            await gateway.call("CreateExecution", request)
        async with gateway.services["executions"].away():
            calls = [asyncio.create_task(gateway.call("CreateExecution", request)) for _ in range(10)]
        await asyncio.gather(*calls)  # both were away; one is back, and nobody waits for a health check to notice


async def test_a_read_answered_unavailable_is_asked_again_and_a_write_is_not(gateway: Gateway) -> None:
    answers = iter([Failure(14, "later"), Failure(14, "later"), None])

    def answer(_: Message) -> Message:
        if failure := next(answers):
            raise failure
        return project_pb2.Projects()

    gateway.services["projects"].answers["ListProjects"] = answer
    await gateway.call("ListProjects", project_pb2.ProjectListRequest())
    assert len(gateway.services["projects"].calls) == 3
    gateway.services["events"].answers["CreateNodeEvent"] = failing(Failure(14, "no room"))
    with pytest.raises(grpc.aio.AioRpcError, match="no room"):
        await gateway.call("CreateNodeEvent", event_pb2.NodeExecutionEventRequest())
    assert len(gateway.services["events"].calls) == 1


async def test_a_deadline_reaches_the_service_and_ends_the_call(gateway: Gateway) -> None:
    async def never(_: Message) -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    gateway.services["projects"].answers["GetProject"] = never
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.call("GetProject", project_pb2.ProjectGetRequest(), timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0 < (gateway.newest_call("projects").seconds_left or 0) < 1
    reply = await gateway.rest.get("/api/v1/projects/p", headers={"grpc-timeout": "300m"})
    assert (reply.status_code, reply.json()["code"]) == (504, 4)


async def test_grpc_calls_are_not_touched_by_rest_rules(gateway: Gateway) -> None:
    gateway.services["projects"].answers["GetProject"] = lambda request: project_pb2.Project(id=request.id)
    metadata = (("accept", BINARY), ("x-envoy-original-path", "/api/v1/projects"), ("flyte-authorization", "Bearer x"))
    reply = await gateway.call("GetProject", project_pb2.ProjectGetRequest(id="p"), metadata=metadata)
    assert reply == project_pb2.Project(id="p")
    assert gateway.newest_call("projects").metadata["flyte-authorization"] == "Bearer x"
    bytes_of_nobody = node_execution_pb2.NodeExecutionGetRequest()
    bytes_of_nobody.id.node_id = "n"
    await gateway.call("GetNodeExecution", bytes_of_nobody)
    assert gateway.newest_call("executions").request == bytes_of_nobody


@pytest.mark.parametrize("method", [f"/{ADMIN}/MakeCoffee", "/flyteidl.service.Kitchen/MakeCoffee", "/a.B/C", "/odd"])
async def test_an_unknown_method_is_unimplemented(gateway: Gateway, method: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.channel.unary_unary(method, bytes, bytes)(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_health_is_answered_by_grpc_and_http(gateway: Gateway) -> None:
    check = gateway.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    assert (await check(health_pb2.HealthCheckRequest(), timeout=10)).status == health_pb2.HealthCheckResponse.SERVING
    for verb in ("GET", "HEAD", "POST"):
        reply = await gateway.rest.request(verb, "/healthcheck")
        assert (reply.status_code, reply.content) == (200, b"")


@pytest.mark.parametrize("path", ["/me", "/.well-known/oauth-authorization-server", "/config/v1/flyte_client"])
async def test_without_auth_its_pages_are_not_implemented(gateway: Gateway, path: str) -> None:
    unimplemented = failing(Failure(12, "unknown service"))
    names = ("UserInfo", "GetOAuth2Metadata", "GetPublicClientConfig")
    gateway.services["projects"].answers = dict.fromkeys(names, unimplemented)
    reply = await gateway.rest.get(path)
    assert (reply.status_code, reply.json()["code"]) == (501, 12)


async def test_an_upload_and_a_download_of_any_size_stream_through(gateway: Gateway) -> None:
    piece = b"\x00\xffpiece of 64 KiB" * (1 << 12)

    async def pieces() -> AsyncIterator[bytes]:
        yield piece
        # A gateway that collects the body first would wait here for ever.
        async with asyncio.timeout(5):
            await gateway.objects.first_piece_arrived.wait()
        for _ in range(399):
            yield piece

    target = "/objects/a/b%20c?signature=x%2By&expires=1"
    kinds = {"content-type": BINARY, "accept": BINARY, "content-md5": "m=="}
    assert (await gateway.rest.put(target, content=pieces(), headers=kinds)).status_code == 200
    assert gateway.objects.objects == {target: piece * 400}
    reply = await gateway.rest.get(target)
    assert reply.content == piece * 400


async def test_grpc_web_is_spoken(gateway: Gateway) -> None:
    gateway.services["projects"].answers["GetProject"] = lambda request: project_pb2.Project(id=request.id)
    message = project_pb2.ProjectGetRequest(id="p").SerializeToString()
    reply = await gateway.rest.post(
        f"/{ADMIN}/GetProject",
        content=b"\x00" + len(message).to_bytes(4, "big") + message,
        headers={"content-type": "application/grpc-web+proto", "x-grpc-web": "1"},
    )
    assert reply.headers["content-type"] == "application/grpc-web+proto"
    size = int.from_bytes(reply.content[1:5], "big")
    assert project_pb2.Project.FromString(reply.content[5 : 5 + size]).id == "p"
    assert b"grpc-status:0" in reply.content[5 + size :]


@pytest.mark.parametrize("path", ["/api/v1/executions/p/d/n", f"/{ADMIN}/GetProject", "/objects/a"])
async def test_a_browser_of_another_origin_may_call(gateway: Gateway, path: str) -> None:
    headers = {"origin": "https://console.example", "access-control-request-method": "PUT"}
    reply = await gateway.rest.options(path, headers=headers)
    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == "https://console.example"
    assert reply.headers["access-control-allow-credentials"] == "true"
    assert "PUT" in reply.headers["access-control-allow-methods"]
    assert "flyte-authorization" in reply.headers["access-control-allow-headers"]


async def test_tls_and_dns_names_and_the_access_log_work_together(tmp_path: Path) -> None:
    chain, key = await own_certificate(tmp_path)
    service = EchoServices()
    service.answers["GetProject"] = lambda request: project_pb2.Project(id=request.id)
    async with service.serving():
        settings = Settings(
            listen=Address("127.0.0.1", free_port()),
            admin=Address("127.0.0.1", free_port()),
            upstreams={owner: [Address("localhost", service.port)] for owner in routes.load().owners},
            tls=Certificate(chain, key),
            access_log=True,
        )
        async with (
            running_gateway(tmp_path, settings, ssl.create_default_context(cafile=str(chain))) as rest,
            grpc.aio.secure_channel(
                f"127.0.0.1:{settings.listen.port}", grpc.ssl_channel_credentials(chain.read_bytes())
            ) as channel,
        ):
            assert (await rest.get("/api/v1/projects/p")).json()["id"] == "p"
            call = channel.unary_unary(f"/{ADMIN}/GetProject", bytes, project_pb2.Project.FromString)
            assert (await call(project_pb2.ProjectGetRequest(id="q").SerializeToString(), timeout=10)).id == "q"
    lines = [json.loads(line) for line in (tmp_path / "envoy.log").read_text().splitlines() if line.startswith("{")]
    assert {
        ("/api/v1/projects/p", "GET", 200, "projects"),
        (f"/{ADMIN}/GetProject", "POST", 200, "projects"),
    } <= {(line["path"], line["verb"], line["status"], line["service"]) for line in lines}


async def own_certificate(folder: Path) -> tuple[Path, Path]:
    chain, key = folder / "chain.pem", folder / "key.pem"
    making = await asyncio.create_subprocess_exec(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
        *("-out", str(chain), "-keyout", str(key)),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await making.wait() == 0
    return chain, key
