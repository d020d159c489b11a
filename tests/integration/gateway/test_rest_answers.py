"""REST responses through a real Envoy: the three forms, and the fields in JSON."""

import pytest
from flyteidl.admin import (
    execution_pb2,
    launch_plan_pb2,
    version_pb2,
)

from tests.support.gateways import BIN, BINARY, CAMEL, SNAKE, Gateway


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
async def test_form_of_a_reply_is_that_of_flyteadmin(gateway: Gateway, headers: dict[str, str], form: str) -> None:
    version = version_pb2.GetVersionResponse()
    version.control_plane_version.Build = "abc"
    gateway.services["projects"].handlers["GetVersion"] = lambda _: version
    reply = await gateway.rest.get("/api/v1/version", headers=headers)
    if form == "binary":
        assert reply.headers["content-type"] == BINARY
        assert version_pb2.GetVersionResponse.FromString(reply.content) == version
    else:
        assert reply.headers["content-type"] == "application/json"
        assert list(reply.json()) == ["controlPlaneVersion" if form == "camel" else "control_plane_version"]


async def test_form_of_a_reply_may_differ_from_that_of_the_body(gateway: Gateway) -> None:
    gateway.services["executions"].handlers["CreateExecution"] = execution_of_request
    gateway.second_executions.handlers["CreateExecution"] = execution_of_request
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


async def test_json_has_defaults_of_unset_fields(gateway: Gateway) -> None:
    plan = launch_plan_pb2.LaunchPlan()
    plan.spec.labels.values["a"] = "<b>"
    plan.spec.max_parallelism = 3
    plan.closure.created_at.FromJsonString("2024-01-02T03:04:05.100Z")
    gateway.services["registry"].handlers["GetLaunchPlan"] = lambda _: plan
    json = (await gateway.rest.get("/api/v1/launch_plans/p/d/n/v")).json()
    assert json["spec"]["maxParallelism"] == 3
    assert json["spec"]["role"] == ""
    assert json["spec"]["labels"] == {"values": {"a": "<b>"}}
    assert json["closure"]["state"] == "INACTIVE"
    assert json["closure"]["createdAt"] == "2024-01-02T03:04:05.100Z"


async def test_reply_that_json_cannot_represent_is_an_internal_failure_that_names_the_value(gateway: Gateway) -> None:
    await check_unwritable(gateway, "execution p/d/e cannot be shown: closure.created_at: timestamp (")


async def test_gateway_reports_a_reply_that_json_cannot_represent_when_the_service_does_not(
    gateway_before_grpcio: Gateway,
) -> None:
    await check_unwritable(gateway_before_grpcio, "the reply cannot be shown: nanos must be in range")


async def check_unwritable(gateway: Gateway, message: str) -> None:
    execution = execution_pb2.Execution(id={"project": "p", "domain": "d", "name": "e"})
    execution.closure.created_at.nanos = -1
    for service in (gateway.services["executions"], gateway.second_executions):
        service.handlers["GetExecution"] = lambda _: execution
    for form in (CAMEL, SNAKE):
        reply = await gateway.rest.get("/api/v1/executions/p/d/e", headers=form)
        assert (reply.status_code, reply.headers["content-type"]) == (500, "application/json")
        status = reply.json()
        assert (status["code"], status["details"]) == (13, [])
        assert status["message"].startswith(message)
    binary = await gateway.rest.get("/api/v1/executions/p/d/e", headers=BIN)
    assert execution_pb2.Execution.FromString(binary.content) == execution
    request = execution_pb2.WorkflowExecutionGetRequest()
    assert await gateway.call("GetExecution", request) == execution
