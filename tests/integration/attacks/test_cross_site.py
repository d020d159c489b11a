"""Attack: web pages of other origins call a sandbox on the machine of their viewer."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.sandbox import Sandbox

ADMIN = "flyteidl.service.AdminService"
OTHER_ORIGIN = "https://evil.example"
JSON = {"content-type": "application/json"}
PROJECT = b'{"project":{"id":"taken-over","name":"n"}}'


@pytest.fixture
async def browser(attacked: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client with the headers of a browser."""
    async with httpx.AsyncClient(base_url=attacked.url, timeout=10) as client:
        yield client


async def names(browser: httpx.AsyncClient) -> set[str]:
    """Return the names of all projects."""
    return {project["id"] for project in (await browser.get("/api/v1/projects")).json()["projects"]}


@pytest.mark.parametrize(
    "page",
    [
        {"origin": OTHER_ORIGIN},
        {"origin": "null"},  # a sandboxed frame, a file
        {"origin": "http://localhost"},  # another port
        {"origin": "http://localhost:{port}.evil.example"},
        {"origin": "file://localhost", "host": "localhost"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize("kind", [JSON, {"content-type": "text/plain"}, {}])
async def test_page_of_another_origin_cannot_write(
    attacked: Sandbox, browser: httpx.AsyncClient, page: dict[str, str], kind: dict[str, str]
) -> None:
    page = {name: value.format(port=attacked.port) for name, value in page.items()}
    for verb, path in (
        ("POST", "/api/v1/projects"),
        ("PUT", "/api/v1/projects/flytesnacks"),
        ("DELETE", "/api/v1/executions/flytesnacks/development/absent"),
        ("PUT", "/objects/uploads/x"),
    ):
        reply = await browser.request(verb, path, content=PROJECT, headers={**page, **kind})
        assert (reply.status_code, reply.json()["code"]) == (403, 7), (verb, path)
        assert "access-control-allow-origin" not in reply.headers
    assert "taken-over" not in await names(browser)


@pytest.mark.parametrize("kind", ["application/grpc-web+proto", "application/grpc-web-text", "application/grpc"])
async def test_page_of_another_origin_cannot_call_grpc(browser: httpx.AsyncClient, kind: str) -> None:
    message = b"\x0a\x0f\x0a\x0ataken-over\x12\x01n"
    frame = b"\x00" + len(message).to_bytes(4, "big") + message
    headers = {"content-type": kind, "x-grpc-web": "1", "origin": OTHER_ORIGIN}
    reply = await browser.post(f"/{ADMIN}/RegisterProject", content=frame, headers=headers)
    assert reply.status_code == 403 or reply.headers["grpc-status"] == "7"
    assert "access-control-allow-origin" not in reply.headers
    assert "taken-over" not in await names(browser)


@pytest.mark.parametrize("path", ["/api/v1/projects", f"/{ADMIN}/GetProject", "/objects/a", "/healthcheck"])
@pytest.mark.parametrize("origin", [OTHER_ORIGIN, "null"])
async def test_page_of_another_origin_can_neither_read_nor_preflight(
    browser: httpx.AsyncClient, path: str, origin: str
) -> None:
    preflight = {"origin": origin, "access-control-request-method": "DELETE"}
    for reply in (await browser.get(path, headers={"origin": origin}), await browser.options(path, headers=preflight)):
        assert not [name for name in reply.headers if name.startswith("access-control")]


async def test_pages_of_the_gateways_own_origin_may_write(attacked: Sandbox, browser: httpx.AsyncClient) -> None:
    own: list[dict[str, Any]] = [
        {"origin": f"http://localhost:{attacked.port}", "sec-fetch-site": "same-origin"},
        {"origin": f"http://127.0.0.1:{attacked.port}", "host": f"127.0.0.1:{attacked.port}"},
        {},
    ]
    for number, page in enumerate(own):
        project = {"project": {"id": f"own-{number}", "name": "n"}}
        assert (await browser.post("/api/v1/projects", json=project, headers=page)).status_code == 200


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "multipart/form-data", "a/b"],
)
async def test_body_of_another_type_is_refused_with_the_types_to_send(browser: httpx.AsyncClient, kind: str) -> None:
    reply = await browser.post("/api/v1/projects", content=PROJECT, headers={"content-type": kind})
    assert (reply.status_code, reply.json()["code"]) == (415, 3)
    assert "Content-Type: application/json" in reply.json()["message"]
    assert "taken-over" not in await names(browser)


@pytest.mark.parametrize("path", ["/api/v1/projects", "/objects/a"])
async def test_request_by_another_host_name_is_refused(browser: httpx.AsyncClient, path: str) -> None:
    for host in ("evil.example", "evil.example:30080", "localhost.evil.example", "127.0.0.1.evil.example", "1.2.3.4.5"):
        reply = await browser.get(path, headers={"host": host})
        assert reply.status_code == 403, host
        assert "flytesnacks" not in reply.text
