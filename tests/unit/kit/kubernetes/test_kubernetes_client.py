"""Requests to an API server over real sockets: credentials that change, errors, lists in pages."""

import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from services.kit.errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServiceError,
    Unauthenticated,
    Unavailable,
)
from services.kit.kubernetes import transport
from services.kit.kubernetes.access import from_files
from services.kit.kubernetes.client import KubernetesClient
from services.kit.kubernetes.errors import TooLarge, Unreachable, to_error
from services.kit.kubernetes.resource_types import ResourceType
from tests.support.api_servers import PlayedServer, Received, failure, played_server
from tests.support.parts import free_port

CONFIG_MAPS = ResourceType("", "v1", "configmaps", "ConfigMap")
NAMESPACES = ResourceType("", "v1", "namespaces", "Namespace", namespaced=False)
WORKFLOWS = ResourceType("flyte.lyft.com", "v1alpha1", "flyteworkflows", "FlyteWorkflow")


@pytest.fixture
def server() -> Iterator[PlayedServer]:
    with played_server(lambda _: (200, {})) as running:
        yield running


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("first\n")
    return file


def write(file: Path, token: str) -> None:
    file.write_text(token)


def remove(file: Path) -> None:
    file.unlink()


def opened(server: PlayedServer, token: Path | None = None) -> KubernetesClient:
    return KubernetesClient.open(lambda: from_files(server.url + "/", token=token), cluster="c1")


def test_paths_are_those_of_core_and_other_groups() -> None:
    assert CONFIG_MAPS.path("ns", "a/b") == "/api/v1/namespaces/ns/configmaps/a%2Fb"
    assert CONFIG_MAPS.path() == "/api/v1/configmaps"
    assert NAMESPACES.path("ignored", "n") == "/api/v1/namespaces/n"
    assert WORKFLOWS.path("ns") == "/apis/flyte.lyft.com/v1alpha1/namespaces/ns/flyteworkflows"


@pytest.mark.parametrize(
    ("status", "reason", "message", "kind"),
    [
        (400, "BadRequest", "wrong", InvalidArgument),
        (401, "Unauthorized", "Unauthorized", Unauthenticated),
        (403, "Forbidden", 'pods "x" is forbidden: exceeded quota: q', PermissionDenied),
        (404, "NotFound", 'namespaces "x" not found', NotFound),
        (409, "AlreadyExists", 'pods "x" already exists', AlreadyExists),
        (409, "Conflict", "Operation cannot be fulfilled", Aborted),
        (413, "RequestEntityTooLarge", "limit is 3145728", TooLarge),
        (422, "Invalid", 'Pod "X" is invalid', InvalidArgument),
        (429, "TooManyRequests", "later", ResourceExhausted),
        (451, "", "no", FailedPrecondition),
        (500, "InternalError", "etcdserver: request is too large", TooLarge),
        (500, "", "rpc error: trying to send message larger than max (3 vs. 2)", TooLarge),
        (500, "InternalError", "failed calling webhook", Unavailable),
        (503, "ServiceUnavailable", "later", Unavailable),
        (504, "Timeout", "etcd", DeadlineExceeded),
    ],
)
def test_errors_have_the_words_of_the_server(status: int, reason: str, message: str, kind: type[ServiceError]) -> None:
    error = to_error(status, json.dumps(failure(status, reason, message)[1]).encode())
    assert (type(error), error.message) == (kind, message)


@pytest.mark.parametrize("body", [b"<html>bad gateway</html>", b"[1]", b'{"message": ""}', b"\xff"])
def test_error_of_a_proxy_shows_what_it_sent(body: bytes) -> None:
    error = to_error(502, body)
    assert isinstance(error, Unavailable)
    assert error.message == f"HTTP 502: {body.decode(errors='replace')}"


async def test_create_sends_the_object_and_asks_for_metadata_only(server: PlayedServer) -> None:
    client = opened(server)
    await client.create(WORKFLOWS, "ns", {"metadata": {"name": "é"}}, field_manager="me", dry_run=True)
    await client.close()
    (request,) = server.received
    assert (request.verb, request.path) == ("POST", WORKFLOWS.path("ns"))
    assert request.parameters == {"fieldManager": "me", "dryRun": "All"}
    assert json.loads(request.body) == {"metadata": {"name": "é"}}
    assert "PartialObjectMetadata" in request.headers["Accept"]
    assert "Authorization" not in request.headers


async def test_apply_sends_json_as_yaml_and_returns_the_object(server: PlayedServer) -> None:
    server.respond = lambda request: (200, {"applied": json.loads(request.body)})
    client = opened(server)
    content = {"metadata": {"name": "n"}, "data": {"k": "v"}}
    assert await client.apply(CONFIG_MAPS, "ns", content, field_manager="me", force=True) == {"applied": content}
    await client.close()
    (request,) = server.received
    assert (request.verb, request.path) == ("PATCH", "/api/v1/namespaces/ns/configmaps/n")
    assert request.parameters == {"fieldManager": "me", "force": "true"}
    assert request.headers["Content-Type"] == "application/apply-patch+yaml"


async def test_delete_names_the_uid_that_it_expects(server: PlayedServer) -> None:
    client = opened(server)
    await client.delete(CONFIG_MAPS, "ns", "n", uid="u1")
    await client.close()
    options = json.loads(server.received[0].body)
    assert (options["propagationPolicy"], options["preconditions"]) == ("Background", {"uid": "u1"})


def tokens_accepted(*accepted: str) -> Any:
    def respond(request: Received) -> tuple[int, Any]:
        return (200, {}) if request.token in accepted else failure(401, "Unauthorized", "Unauthorized")

    return respond


async def test_a_new_token_is_used_as_soon_as_the_old_one_is_refused(server: PlayedServer, token_file: Path) -> None:
    client = opened(server, token_file)
    server.respond = tokens_accepted("first")
    await client.get(CONFIG_MAPS, "ns", "n")
    write(token_file, "second")
    server.respond = tokens_accepted("second")
    await client.get(CONFIG_MAPS, "ns", "n")
    await client.close()
    assert [request.token for request in server.received] == ["first", "first", "second"]


async def test_a_new_token_is_used_after_a_while_although_the_old_one_is_accepted(
    server: PlayedServer, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_REREAD_SECONDS", 0.0)
    client = opened(server, token_file)
    write(token_file, "second")
    await client.get(CONFIG_MAPS, "ns", "n")
    await client.close()
    assert [request.token for request in server.received] == ["second"]


async def test_a_token_that_stays_refused_is_unauthenticated_after_one_request(
    server: PlayedServer, token_file: Path
) -> None:
    server.respond = tokens_accepted("other")
    client = opened(server, token_file)
    with pytest.raises(Unauthenticated, match="the API server c1 does not accept the credentials: Unauthorized"):
        await client.get(CONFIG_MAPS, "ns", "n")
    await client.close()
    assert len(server.received) == 1


async def test_credentials_that_cannot_be_read_again_are_kept(
    server: PlayedServer, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_REREAD_SECONDS", 0.0)
    client = opened(server, token_file)
    remove(token_file)
    await client.get(CONFIG_MAPS, "ns", "n")
    await client.close()
    assert [request.token for request in server.received] == ["first"]


async def test_a_server_that_moves_is_followed(server: PlayedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_REREAD_SECONDS", 0.0)
    with played_server(lambda _: (200, {"moved": True})) as other:
        urls = iter([server.url, other.url, other.url])
        client = KubernetesClient.open(lambda: from_files(next(urls)))
        assert await client.get(CONFIG_MAPS, "ns", "n") == {"moved": True}
        await client.close()
    assert server.received == []


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    client = KubernetesClient.open(lambda: from_files(f"http://127.0.0.1:{free_port()}"), cluster="c1")
    with pytest.raises(Unreachable, match="the API server c1 cannot be reached"):
        await client.get(CONFIG_MAPS, "ns", "n")
    await client.close()


@pytest.mark.parametrize("verb", ["get", "delete", "create"])
async def test_a_request_whose_connection_ends_is_repeated_once(server: PlayedServer, verb: str) -> None:
    responses: Iterator[tuple[int, Any]] = iter([(0, None), (200, {}), (0, None), (0, None)])
    server.respond = lambda _: next(responses)
    client = opened(server)
    calls: Mapping[str, Callable[[], Awaitable[Any]]] = {
        "get": lambda: client.get(CONFIG_MAPS, "ns", "n"),
        "delete": lambda: client.delete(CONFIG_MAPS, "ns", "n"),
        "create": lambda: client.create(CONFIG_MAPS, "ns", {}),
    }
    await calls[verb]()
    with pytest.raises(Unreachable, match="the API server c1 has closed the connection"):
        await calls[verb]()
    await client.close()
    assert len(server.received) == 4


async def test_a_server_that_does_not_respond_is_deadline_exceeded(
    server: PlayedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_RESPONSE_SECONDS", 0.1)

    def respond(_request: Received) -> tuple[int, Any]:
        time.sleep(0.5)
        return 200, {}

    server.respond = respond
    client = opened(server)
    with pytest.raises(DeadlineExceeded, match="the API server c1 does not respond"):
        await client.get(CONFIG_MAPS, "ns", "n")
    await client.close()


def table(names: list[str], token: str) -> tuple[int, Any]:
    columns = [{"name": "Created At", "format": ""}, {"name": "Name", "format": "name"}]
    rows = [{"cells": ["today", name]} for name in names]
    return 200, {"columnDefinitions": columns, "rows": rows, "metadata": {"continue": token}}


async def test_names_come_from_all_pages_of_a_table(server: PlayedServer) -> None:
    pages = {"": table(["a", "b"], "next"), "next": table(["c"], "")}
    server.respond = lambda request: pages[request.parameters.get("continue", "")]
    client = opened(server)
    assert await client.names(WORKFLOWS, "ns", labels="x!=y") == {"a", "b", "c"}
    await client.close()
    first = server.received[0]
    assert (first.parameters["labelSelector"], first.parameters["includeObject"]) == ("x!=y", "None")
    assert "as=Table" in first.headers["Accept"]


async def test_names_begin_again_when_the_list_expires(server: PlayedServer) -> None:
    responses = iter([table(["a"], "next"), failure(410, "Expired", "too old"), table(["b"], "")])
    server.respond = lambda _: next(responses)
    client = opened(server)
    assert await client.names(WORKFLOWS, "ns") == {"b"}
    await client.close()


async def test_objects_come_from_all_pages_of_a_list(server: PlayedServer) -> None:
    pages = {"": {"items": [{"n": 1}], "metadata": {"continue": "t"}}, "t": {"items": [{"n": 2}], "metadata": {}}}
    server.respond = lambda request: (200, pages[request.parameters.get("continue", "")])
    client = opened(server)
    assert [item async for item in client.list(CONFIG_MAPS)] == [{"n": 1}, {"n": 2}]
    await client.close()
    assert {request.path for request in server.received} == {"/api/v1/configmaps"}


async def test_types_are_discovered_once(server: PlayedServer) -> None:
    resources = [
        {"name": "namespaces", "kind": "Namespace", "namespaced": False},
        {"name": "namespaces/status", "kind": "Namespace", "namespaced": False},
        {"name": "configmaps", "kind": "ConfigMap", "namespaced": True},
    ]
    server.respond = lambda _: (200, {"resources": resources})
    client = opened(server)
    assert await client.resource_type("v1", "Namespace") == NAMESPACES
    assert await client.resource_type("v1", "ConfigMap") == CONFIG_MAPS
    assert len(server.received) == 1
    with pytest.raises(NotFound, match="the API server has no Pod of v1"):
        await client.resource_type("v1", "Pod")
    server.respond = lambda _: failure(404, "NotFound", "the server could not find the requested resource")
    with pytest.raises(NotFound, match=r"the API server has no none\.io/v1"):
        await client.resource_type("none.io/v1", "Thing")
    await client.close()
