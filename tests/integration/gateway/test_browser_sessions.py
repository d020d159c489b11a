"""Sessions of browsers at a real Envoy: it routes their login, and validates their cookie."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway import routes
from gateway.bootstrap import Settings
from gateway.clusters import Address
from gateway.tls import Certificate
from services.kit.process.http_server import HttpServer
from services.kit.rpc.callers import Callers
from services.projects.login.client import Client
from services.projects.login.cookies import SESSION
from services.projects.login.discovery import Discovery
from services.projects.login.routes import BrowserLogin
from tests.support import chromium
from tests.support.browsers import Browser
from tests.support.callers import SECRET
from tests.support.certificates import own_certificate
from tests.support.echo_services import EchoServices
from tests.support.envoy import running_gateway
from tests.support.gateways import CONSOLE, Gateway, echoing_gateway
from tests.support.oidc.clients import Client as Registered
from tests.support.oidc.provider import Provider, running_provider
from tests.support.oidc.wrong_tokens import WRONG_TOKENS
from tests.support.parts import await_port, free_port

CLIENT_ID = "console"


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with running_provider([Registered(CLIENT_ID, secret="console-secret")]) as running:
        yield running


@pytest.fixture(scope="module")
async def gateway(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Run a gateway with login of browsers, in front of services that know who calls."""
    folder = tmp_path_factory.mktemp("gateway")
    settings = _login(provider, folder)
    async with (
        echoing_gateway(folder, callers=Callers(SECRET), **settings) as running,
        _serving_login(provider, _url_of(running), settings["browser_login"][0].port),
    ):
        yield running


def _login(provider: Provider, folder: Path) -> dict[str, Any]:
    """Return the gateway's settings for login of browsers."""
    secret = folder / "secret"
    secret.write_text(SECRET)
    return {
        "gateway_secret_file": secret,
        "auth_issuer": provider.issuer,
        "auth_audiences": [CLIENT_ID],
        "auth_jwks_url": provider.keys_url,
        "browser_login": [Address("127.0.0.1", free_port())],
    }


def _url_of(gateway: Gateway) -> str:
    """Return its URL as browsers reach it: cookies are for a name, not for an address."""
    return str(gateway.rest.base_url).replace("127.0.0.1", "localhost").rstrip("/")


@asynccontextmanager
async def _serving_login(provider: Provider, url: str, port: int) -> AsyncIterator[None]:
    """Serve the login of browsers that reach the gateway by `url`, and register them at the provider."""

    async def ready() -> str:
        return ""

    provider.clients[CLIENT_ID].redirect_uris = [f"{url}/callback"]
    provider.clients[CLIENT_ID].post_logout_uris = [f"{url}/logout"]
    discovery = Discovery(provider.issuer)
    client = Client(discovery, provider.issuer, CLIENT_ID, "console-secret", clock=time.time)
    login = BrowserLogin(client, ("openid", "offline_access"), url, [CONSOLE], time.time)
    server = HttpServer(f"127.0.0.1:{port}", ready, login.routes)
    serving = asyncio.create_task(server.serve())
    await asyncio.to_thread(await_port, port)
    try:
        yield
    finally:
        server.stop(0)
        await serving
        await client.close()
        await discovery.close()


@pytest.fixture(name="url")
def _url(gateway: Gateway, provider: Provider) -> str:
    """Return the gateway's URL; the services have no calls yet."""
    provider.reset()
    for service in gateway.services.values():
        service.calls.clear()
    return _url_of(gateway)


async def test_a_browser_is_known_from_its_login_to_its_logout(gateway: Gateway, url: str) -> None:
    async with Browser("ann") as browser:
        assert (await browser.step(f"{url}/me")).status_code == 401
        assert (await browser.open(f"{url}/login")).url.path == "/me"
        call = gateway.newest_call("projects")
        assert (call.method, call.caller.subject, call.caller.client) == ("UserInfo", "ann", CLIENT_ID)
        assert "cookie" not in call.metadata
        assert "ended" in (await browser.open(f"{url}/logout")).text
        assert (await browser.step(f"{url}/me")).status_code == 401


async def test_an_expired_session_is_renewed_by_login(gateway: Gateway, provider: Provider, url: str) -> None:
    provider.expires_in = -61  # longer ago than Envoy's tolerance
    async with Browser("ann") as browser:
        assert "has expired" in (await browser.open(f"{url}/login")).text
        provider.expires_in = 300
        await browser.open(f"{url}/login")
        expired = provider.token("ann", audience=CLIENT_ID, expires_in=-61)
        assert (await browser.step(f"{url}/me", headers={"cookie": f"{SESSION}={expired}"})).status_code == 401
        renewed = await browser.step(f"{url}/login?redirect_url=/me")
        assert renewed.headers["location"] == "/me"
        assert (await browser.step(f"{url}/me")).status_code == 200
    assert gateway.newest_call("projects").caller.subject == "ann"


@pytest.mark.parametrize("wrong", WRONG_TOKENS)
async def test_a_wrong_session_keeps_no_browser_from_its_login(provider: Provider, url: str, wrong: str) -> None:
    headers = {"cookie": f"{SESSION}={WRONG_TOKENS[wrong](provider)}"}
    async with Browser() as browser:
        assert (await browser.step(f"{url}/me", headers=headers)).status_code == 401
        for path in ("/login", "/logout"):
            assert (await browser.step(f"{url}{path}", headers=headers)).status_code in {200, 307}
        assert (await browser.step(f"{url}/callback", headers=headers)).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": CONSOLE}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
    ids=str,
)
async def test_pages_of_others_write_nothing_with_a_session(
    gateway: Gateway, provider: Provider, url: str, headers: dict[str, str], status: int
) -> None:
    session = {"cookie": f"{SESSION}={provider.token('ann', audience=CLIENT_ID)}"}
    headers = {**session, **headers, "content-type": "application/json"}
    reply = await gateway.rest.post(f"{url}/api/v1/projects", headers=headers, content="{}")
    assert reply.status_code == status, reply.text
    assert len(gateway.services["projects"].calls) == (status == 200)


@pytest.mark.parametrize("verb", ["POST", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/login", "/callback", "/logout"])
async def test_logins_have_one_verb(gateway: Gateway, url: str, path: str, verb: str) -> None:
    assert (await gateway.rest.request(verb, f"{url}{path}")).status_code == 404


@pytest.mark.parametrize("path", ["/login/", "/login/x", "/loginx", "/logout/", "/Login", "/callback%2F"])
async def test_neighbours_of_the_paths_need_a_token(gateway: Gateway, url: str, path: str) -> None:
    assert (await gateway.rest.get(f"{url}{path}")).status_code == 401


async def test_a_page_that_calls_the_gateway_by_its_own_name_does_not_log_in(gateway: Gateway, url: str) -> None:
    reply = await gateway.rest.get(f"{url}/login", headers={"host": "evil.example"})
    assert reply.status_code == 403
    assert "set-cookie" not in reply.headers


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/%0d%0aset-cookie:a=b", "/%5Cevil.example"]
)
async def test_no_login_leads_elsewhere(gateway: Gateway, url: str, target: str) -> None:
    reply = await gateway.rest.get(f"{url}/login?redirect_url={target}")
    assert reply.status_code == 400
    assert not {"location", "set-cookie"} & set(reply.headers)


async def test_a_login_is_a_page_while_the_provider_is_away(gateway: Gateway, provider: Provider, url: str) -> None:
    async with Browser() as browser:
        state = (await browser.step(f"{url}/login")).headers["location"]
        provider.stop()
        try:
            query = parse_qs(urlsplit(state).query)
            reply = await browser.step(f"{url}/callback?code=x&state={query['state'][0]}")
        finally:
            provider.start()
    assert reply.status_code == 503
    assert "not available" in reply.text
    assert gateway.services["projects"].calls == []


@chromium.needed
async def test_chromium_keeps_the_session_of_https(provider: Provider, tmp_path: Path) -> None:
    provider.reset()
    provider.auto_approve = "ann"
    chain, key = await own_certificate(tmp_path, "DNS:localhost,IP:127.0.0.1")
    services, port = EchoServices(Callers(SECRET)), free_port()
    settings = Settings(
        listen=Address("127.0.0.1", port),
        admin=Address("127.0.0.1", free_port()),
        upstreams={owner: [services.address] for owner in routes.load().owners},
        tls=Certificate(chain, key),
        **_login(provider, tmp_path),
    )
    url, verify = f"https://localhost:{port}", ssl.create_default_context(cafile=chain)

    async def open_page(path: str) -> str:
        return await chromium.page(tmp_path / "profile", url + path, "--ignore-certificate-errors")

    async with (
        services.serving(),
        running_gateway(tmp_path / "envoy", settings, verify),
        _serving_login(provider, url, settings.browser_login[0].port),
    ):
        for path in ("/login", "/me"):
            await open_page(path)
            assert services.calls.pop().caller.subject == "ann"
        assert "Your session has ended" in await open_page("/logout")
        assert "Jwt is missing" in await open_page("/me")
        assert not services.calls
