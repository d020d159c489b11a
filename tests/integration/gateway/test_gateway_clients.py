"""gRPC clients, browsers, probes and operators of a real Envoy; REST has modules of its own."""

import json
import ssl
from pathlib import Path

import grpc
import pytest
from flyteidl.admin import (
    node_execution_pb2,
    project_pb2,
    version_pb2,
)
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

from gateway import routes
from gateway.bootstrap import Settings
from gateway.clusters import Address
from gateway.tls import Certificate
from tests.support.certificates import own_certificate
from tests.support.echo_services import METHODS, EchoServices
from tests.support.envoy import running_gateway
from tests.support.gateways import ADMIN, BINARY, CONSOLE, Gateway
from tests.support.parts import free_port


@pytest.mark.parametrize("method", routes.load().methods, ids=lambda method: method.name)
async def test_grpc_call_of_every_method_reaches_its_owner(gateway: Gateway, method: routes.Method) -> None:
    descriptor = METHODS[f"/{method.name}"]
    await gateway.call(descriptor.name, GetMessageClass(descriptor.input_type)())
    assert gateway.newest_call(method.owner).method == descriptor.name
    assert sum(len(service.calls) for service in (*gateway.services.values(), gateway.second_executions)) == 1


async def test_grpc_calls_are_not_touched_by_rest_rules(gateway: Gateway) -> None:
    gateway.services["projects"].handlers["GetProject"] = lambda request: project_pb2.Project(id=request.id)
    metadata = (("accept", BINARY), ("x-envoy-original-path", "/api/v1/projects"), ("flyte-authorization", "Bearer x"))
    reply = await gateway.call("GetProject", project_pb2.ProjectGetRequest(id="p"), metadata=metadata)
    assert reply == project_pb2.Project(id="p")
    assert gateway.newest_call("projects").metadata["flyte-authorization"] == "Bearer x"
    request = node_execution_pb2.NodeExecutionGetRequest()
    request.id.node_id = "n"
    await gateway.call("GetNodeExecution", request)
    assert gateway.newest_call("executions").request == request


async def test_headers_of_the_gateways_own_cannot_be_sent(gateway: Gateway) -> None:
    own = ("x-flyteplane-claims", "x-flyteplane-gateway", "x-flyteplane-json-reply", "x-flyteplane-any")
    forged = [(name, "forged") for name in own for _ in range(2)]
    await gateway.call("GetVersion", version_pb2.GetVersionRequest(), metadata=forged)
    await gateway.rest.get("/api/v1/version", headers=[(name.title(), value) for name, value in forged])
    for call in gateway.services["projects"].calls:
        assert "forged" not in call.metadata.values()
        assert "x-flyteplane-any" not in call.metadata


async def test_health_is_served_by_grpc_and_http(gateway: Gateway) -> None:
    check = gateway.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    assert (await check(health_pb2.HealthCheckRequest(), timeout=10)).status == health_pb2.HealthCheckResponse.SERVING
    for verb in ("GET", "HEAD", "POST"):
        reply = await gateway.rest.request(verb, "/healthcheck")
        assert (reply.status_code, reply.content) == (200, b"")


async def test_grpc_web_call_returns_message_and_status(gateway: Gateway) -> None:
    gateway.services["projects"].handlers["GetProject"] = lambda request: project_pb2.Project(id=request.id)
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
async def test_preflight_of_a_listed_origin_is_allowed(gateway: Gateway, path: str) -> None:
    headers = {"origin": CONSOLE, "access-control-request-method": "PUT"}
    reply = await gateway.rest.options(path, headers=headers)
    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == CONSOLE
    assert reply.headers["access-control-allow-credentials"] == "true"
    assert "PUT" in reply.headers["access-control-allow-methods"]
    assert "flyte-authorization" in reply.headers["access-control-allow-headers"]


@pytest.mark.parametrize(
    "page",
    [
        {"origin": CONSOLE, "sec-fetch-site": "cross-site"},
        {"origin": "http://127.0.0.1", "host": "127.0.0.1:80"},
        {"origin": "https://[::1]:8443", "host": "[::1]:8443"},
        {"origin": "http://localhost:8080", "host": "LOCALHOST.:8080"},
        {"sec-fetch-site": "none"},
    ],
)
async def test_page_of_a_listed_origin_or_the_gateways_own_may_write(gateway: Gateway, page: dict[str, str]) -> None:
    kind = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    message = b"\x0a\x03\x0a\x01p"
    frame = b"\x00" + len(message).to_bytes(4, "big") + message
    project = {"project": {"id": "p"}}
    for reply in (
        await gateway.rest.post("/api/v1/projects", json=project, headers=page),
        await gateway.rest.post(f"/{ADMIN}/RegisterProject", content=frame, headers={**page, **kind}),
        await gateway.rest.put("/objects/a", content=b"x", headers=page),
    ):
        assert reply.status_code == 200, reply.text
        assert reply.headers.get("access-control-allow-origin") == (CONSOLE if CONSOLE in page.values() else None)
    assert [call.request.project.id for call in gateway.services["projects"].calls] == ["p", "p"]


@pytest.mark.parametrize(
    "page",
    [
        {"origin": "https://evil.example"},
        {"origin": "https://console.example:8443"},
        {"origin": "http://127.0.0.1", "host": "127.0.0.1:8080"},
        {"origin": "file://"},
        {"origin": ""},
        {"sec-fetch-site": "cross-site"},
        {"host": "evil.example"},
    ],
)
async def test_page_of_another_origin_reaches_no_service(gateway: Gateway, page: dict[str, str]) -> None:
    kind = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    gateway.objects.objects.clear()
    replies = [
        await gateway.rest.post("/api/v1/projects", json={}, headers=page),
        await gateway.rest.delete("/api/v1/executions/p/d/n", headers=page),
        await gateway.rest.put("/objects/a", content=b"x", headers=page),
    ]
    if "origin" in page:  # browsers send it with every POST
        grpc_web = {**page, **kind}
        replies.append(await gateway.rest.post(f"/{ADMIN}/RegisterProject", content=b"\0" * 5, headers=grpc_web))
    assert [reply.status_code for reply in replies] == [403] * len(replies)
    assert not any(service.calls for service in gateway.services.values())
    assert not gateway.objects.objects


async def test_tls_and_dns_names_and_the_access_log_work_together(tmp_path: Path) -> None:
    chain, key = await own_certificate(tmp_path)
    service = EchoServices()
    service.handlers["GetProject"] = lambda request: project_pb2.Project(id=request.id)
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
