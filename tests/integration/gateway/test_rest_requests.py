"""REST requests through a real Envoy: the methods that they reach, and the messages that arrive."""

from typing import Any
from urllib.parse import quote

import pytest
from flyteidl.admin import (
    execution_pb2,
    project_attributes_pb2,
    project_pb2,
)
from google.protobuf.json_format import MessageToJson
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status

from gateway import descriptors, routes
from tests.support.echo_services import METHODS
from tests.support.gateways import BIN, BINARY, Gateway, value_of


def in_path(field: str, number: int) -> Any:
    """Return a value for a path variable, a different one for each."""
    if field.endswith("resource_type"):
        return 2
    return number if field.endswith("retry_attempt") else f"path-{number}"


def in_body(field: str) -> Any:
    return {"resource_type": 1, "retry_attempt": 99}.get(field.rpartition(".")[2], "body")


def put_value(message: Any, field: str, value: Any) -> None:
    *parents, name = field.split(".")
    setattr(value_of(message, ".".join(parents)) if parents else message, name, value)


def rest_cases() -> list[Any]:
    owners = {method.name: method.owner for method in routes.load().methods}
    return [
        pytest.param(owners[pattern.method], pattern, id=f"{pattern.verb} {pattern.shape}")
        for pattern in descriptors.rest_patterns()
    ]


@pytest.mark.parametrize(("owner", "pattern"), rest_cases())
@pytest.mark.parametrize("form", ["json", "binary", "no body"])
async def test_rest_request_of_every_pattern_reaches_its_method_and_the_path_wins_over_the_body(
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


async def test_slash_within_a_name_arrives_in_every_variable_of_every_path(gateway: Gateway) -> None:
    for owner, pattern in (case.values for case in rest_cases()):
        texts = [name for name in pattern.variables if isinstance(in_path(name, 0), str)]
        path, expected = pattern.path, {}
        for number, field in enumerate(pattern.variables):
            value = f"{number}/\u20ac %2F" if field in texts else str(in_path(field, number))
            path = path.replace(f"{{{field}}}", quote(value, safe=""))
            expected[field] = value if field in texts else in_path(field, number)
        reply = await gateway.rest.request(pattern.verb, path)
        assert reply.status_code == 200, (path, reply.text)
        request = gateway.newest_call(owner).request
        assert {field: value_of(request, field) for field in expected} == expected, path
        gateway.services[owner].calls.clear()
        gateway.second_executions.calls.clear()


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        ("/api/v1/projects/a/%2e%2e/b", "id", "b"),
        ("/api/v1/tasks/.%2E/projects/%2e/b", "id", "b"),
        ("/api/v1//projects/b", "id", "b"),
    ],
)
async def test_dots_and_double_slashes_are_cleaned_from_a_path(
    gateway: Gateway, path: str, field: str, value: str
) -> None:
    reply = await gateway.rest.get(gateway.rest.base_url.copy_with(raw_path=path.encode()))
    assert reply.status_code == 200, reply.text
    assert value_of(gateway.newest_call("projects").request, field) == value


async def test_fields_of_the_body_that_the_path_does_not_bind_arrive(gateway: Gateway) -> None:
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


async def test_body_is_read_in_camel_and_in_snake_case(gateway: Gateway) -> None:
    for body in ({"id": {"resourceType": "TASK"}}, {"id": {"resource_type": "TASK"}}, {"id": {"resource_type": 1}}):
        await gateway.rest.post("/api/v1/tasks", json=body)
        assert gateway.newest_call("registry").request.id.resource_type == 1


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
        ("filters=gte(a,2024-01-01T00:00:00%2B00:00)", "filters", "gte(a,2024-01-01T00:00:00+00:00)"),
        ("filters=gte(a,2024-01-01T00:00:00+00:00)", "filters", "gte(a,2024-01-01T00:00:00 00:00)"),  # as Go reads it
        ("filters=gte(a,2024-01-01T00%3A00%3A00%20%2b)", "filters", "gte(a,2024-01-01T00:00:00 +)"),
        ("filters=eq(a,%252B)", "filters", "eq(a,%2B)"),
        ("unknown=x&limit=2&other.thing=1", "limit", 2),
        ("workflow_execution_id.project=other", "workflow_execution_id.project", "p"),
        ("workflowExecutionId.project=other", "workflow_execution_id.project", "p"),
        ("workflow_execution_id.projec%74=other&limit=1", "workflow_execution_id.project", "p"),
        ("workflow_execution_id%2Eproject=other", "workflow_execution_id.project", "p"),
        ("workflow_execution_id.org=o", "workflow_execution_id.org", "o"),
    ],
)
async def test_query_parameters_are_read_as_flyteadmin_reads_them(
    gateway: Gateway, query: str, field: str, value: object
) -> None:
    reply = await gateway.rest.get(f"/api/v1/node_executions/p/d/n?{query}")
    assert reply.status_code == 200, reply.text
    assert value_of(gateway.newest_call("executions").request, field) == value


async def test_query_of_a_request_with_a_body_is_ignored(gateway: Gateway) -> None:
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
        ("feature%2Fx", "feature/x"),
        ("feature%2fx", "feature/x"),
        ("%2F", "/"),
        ("a%2F%2Fb%2F", "a//b/"),
        ("a%252Fb", "a%2Fb"),
        ("a%5Cb", "a\\b"),
        ("..%2F..%2Fdomains", "../../domains"),
        ("%E2%82%AC%2Fn", "€/n"),
    ],
)
async def test_path_segment_may_contain_any_text(gateway: Gateway, segment: str, value: str) -> None:
    assert (await gateway.rest.get(f"/api/v1/projects/{segment}")).status_code == 200
    assert gateway.newest_call("projects").request.id == value


@pytest.mark.parametrize(
    ("path", "headers", "status", "message"),
    [
        ("/api/v1/projects/a%00", {}, 400, "the path cannot be read"),
        ("/api/v1/projects", {"connection": "Upgrade", "upgrade": "websocket"}, 403, "connections cannot be upgraded"),
    ],
)
async def test_request_that_envoy_refuses_by_itself_has_a_message(
    gateway: Gateway, path: str, headers: dict[str, str], status: int, message: str
) -> None:
    response = await gateway.rest.get(path, headers=headers)
    assert (response.status_code, response.json()["message"]) == (status, message)


@pytest.mark.parametrize(
    ("verb", "path", "status", "code"),
    [
        ("GET", "/api/v1/nothing", 404, 5),
        ("GET", "/", 404, 5),
        ("GET", "/login", 404, 5),
        ("GET", "/api/v1/projects/a/b", 404, 5),
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
async def test_wrong_request_is_refused_in_json_and_binary(
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
