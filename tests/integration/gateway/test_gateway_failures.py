"""Failures through a real Envoy: code, message and details arrive by REST and gRPC."""

from typing import Any

import grpc
import pytest
from flyteidl.admin import (
    project_pb2,
)
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status

from tests.support.echo_services import METHODS, Failure
from tests.support.gateways import ADMIN, BIN, CAMEL, Gateway, failing
from tests.support.refusals import refused

# As grpc-gateway translates them (gateway.md#rest-errors).
HTTP_OF = {1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 13: 500}
HTTP_OF |= {14: 503, 15: 500, 16: 401}
NEVER_RAISED = (2, 15)  # services.kit.errors has no class for them


@pytest.mark.parametrize("code", sorted(HTTP_OF.keys() - NEVER_RAISED))
async def test_failure_has_code_message_and_details(gateway: Gateway, code: int) -> None:
    await check_failure(gateway, code)


@pytest.mark.parametrize("code", NEVER_RAISED)
async def test_failure_that_no_service_raises_has_code_message_and_details(
    gateway_before_grpcio: Gateway, code: int
) -> None:
    await check_failure(gateway_before_grpcio, code)


async def check_failure(gateway: Gateway, code: int) -> None:
    detail = BadRequest(field_violations=[BadRequest.FieldViolation(field="id", description="is \u00e9")])
    failure = Failure(code, 'no "project" \\ é\nnext line', detail, project_pb2.Project(id="p"))
    gateway.services["projects"].handlers["RegisterProject"] = failing(failure)
    json = await gateway.rest.post("/api/v1/projects", json={})
    assert json.status_code == HTTP_OF[code]
    assert json.json() | {"details": []} == {"code": code, "message": failure.status.message, "details": []}
    assert [each["@type"] for each in json.json()["details"]] == [each.type_url for each in failure.status.details]
    binary = await gateway.rest.post("/api/v1/projects", headers=BIN)
    assert binary.status_code == HTTP_OF[code]
    assert Status.FromString(binary.content) == failure.status
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.call("RegisterProject", project_pb2.ProjectRegisterRequest())
    assert caught.value.code().value[0] == code
    assert caught.value.details() == failure.status.message
    assert Status.FromString(details_of(caught.value)) == failure.status


def details_of(error: grpc.aio.AioRpcError) -> bytes:
    metadata: Any = error.trailing_metadata()  # grpc-stubs take it for a plain tuple
    return bytes(metadata["grpc-status-details-bin"])


@pytest.mark.parametrize("headers", [CAMEL, BIN])
async def test_failure_without_details_has_code_and_message(gateway: Gateway, headers: dict[str, str]) -> None:
    gateway.services["projects"].handlers["GetProject"] = failing(Failure(5, "no pröject 100%"))
    reply = await gateway.rest.get("/api/v1/projects/p", headers=headers)
    status = Status.FromString(reply.content) if headers is BIN else Status(**reply.json())
    assert (reply.status_code, status) == (404, Status(code=5, message="no pröject 100%"))
    assert "grpc-message" not in reply.headers


async def test_failure_with_a_detail_of_an_unknown_type_loses_only_the_detail(gateway_before_grpcio: Gateway) -> None:
    gateway = gateway_before_grpcio
    unknown = AnyMessage(type_url="type.googleapis.com/acme.Unknown", value=b"\x00")
    gateway.services["projects"].handlers["GetProject"] = failing(Failure(9, 'text "é"\n', unknown))
    json = await gateway.rest.get("/api/v1/projects/p")
    assert (json.status_code, json.headers["content-type"]) == (400, "application/json")
    assert json.json() == {"code": 9, "message": 'text "é"\n', "details": []}
    binary = await gateway.rest.get("/api/v1/projects/p", headers=BIN)
    assert Status.FromString(binary.content).details[0] == unknown


@pytest.mark.parametrize("character", ["x", "🍲"])
async def test_long_failure_arrives_within_the_limits_of_clients(gateway: Gateway, character: str) -> None:
    failure = Failure(3, character * 20_000, project_pb2.Project(id="y" * 1000))
    gateway.services["projects"].handlers["RegisterProject"] = failing(failure)
    path = f"/{ADMIN}/RegisterProject"
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        call = channel.unary_unary(path, bytes, bytes)(b"")
        error = await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "characters left out")
    assert Status.FromString(details_of(error)).details == failure.status.details
    json = (await gateway.rest.post("/api/v1/projects", json={})).json()
    assert (json["code"], json["message"]) == (3, error.details())


async def test_long_header_is_quoted_in_part(gateway: Gateway) -> None:
    metadata = (("origin", f"http://{'x' * 15_000}"),)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        call = channel.unary_unary(f"/{ADMIN}/RegisterProject", bytes, bytes)(b"", metadata=metadata)
        error = await refused(call, grpc.StatusCode.PERMISSION_DENIED)
    assert error.details() == f"web pages of http://{'x' * 248}... may not write here"
    media_type = {b"content-type": f"a{'é' * 200}".encode()}
    reply = await gateway.rest.post("/api/v1/projects", content=b"x", headers=media_type)
    assert (reply.status_code, reply.json()["message"].partition(";")[0]) == (415, f"the body is a{'é' * 126}...")


async def test_longer_failure_than_services_send_arrives_whole(gateway_before_grpcio: Gateway) -> None:
    gateway = gateway_before_grpcio
    failure = Failure(3, "x" * 32_000, project_pb2.Project(id="y" * 60_000))
    gateway.services["registry"].handlers["CreateWorkflow"] = failing(failure)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.call("CreateWorkflow", GetMessageClass(METHODS[f"/{ADMIN}/CreateWorkflow"].input_type)())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert Status.FromString(details_of(caught.value)) == failure.status
    assert (await gateway.rest.post("/api/v1/workflows")).json()["message"] == failure.status.message
    assert Status.FromString((await gateway.rest.post("/api/v1/workflows", headers=BIN)).content) == failure.status


@pytest.mark.parametrize(
    "method", [f"/{ADMIN}/MakeCoffee", "/flyteidl.service.CoffeeService/MakeCoffee", "/a.B/C", "/odd"]
)
async def test_unknown_method_is_unimplemented(gateway: Gateway, method: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.channel.unary_unary(method, bytes, bytes)(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("path", ["/me", "/.well-known/oauth-authorization-server", "/config/v1/flyte_client"])
async def test_pages_of_authentication_are_not_implemented(gateway: Gateway, path: str) -> None:
    unimplemented = failing(Failure(12, "unknown service"))
    names = ("UserInfo", "GetOAuth2Metadata", "GetPublicClientConfig")
    gateway.services["projects"].handlers = dict.fromkeys(names, unimplemented)
    reply = await gateway.rest.get(path)
    assert (reply.status_code, reply.json()["code"]) == (501, 12)
