"""Login, callback and logout of browsers, with a real provider."""

import re
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from services.projects.login.client import Client
from services.projects.login.cookies import MOST_TOKEN_BYTES
from services.projects.login.discovery import Discovery
from services.projects.login.routes import BrowserLogin
from tests.support.browsers import Browser
from tests.support.oidc.clients import Client as Registered
from tests.support.oidc.provider import DOWN, NONSENSE, running_provider
from tests.support.oidc.provider import Provider as Served
from tests.support.oidc.tokens import claims_of

OWN = "http://localhost:30080"
SECURE = "https://localhost:30443"
CONSOLE = "http://console.example"
SESSION, SECRET, REFRESH = "flyteplane_session", "flyteplane_login", "flyteplane_refresh"
SCOPES = ("openid", "profile", "offline_access")
NOT_THERE = "redirect_url is neither"


class Clock:
    """A clock that a test moves on."""

    def __init__(self) -> None:
        self.late = 0.0

    def __call__(self) -> float:
        import time

        return time.time() + self.late


class Stack:
    """The routes of a service in place of its gateway, for browsers that reach the provider over the network."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self.clock = clock
        self.mounts = {
            own: httpx.ASGITransport(_application(BrowserLogin(client, SCOPES, f"{own}/flyte", [CONSOLE], clock)))
            for own in (OWN, SECURE)
        }

    def browser(self, user: str = "ann") -> Browser:
        return Browser(user, self.mounts)


def _application(login: BrowserLogin) -> Starlette:
    async def seen(request: Request) -> JSONResponse:
        return JSONResponse({"url": str(request.url), "cookies": request.cookies})

    app = Starlette(routes=[*login.routes, Route("/console", seen), Route("/me", seen)])
    app.router.redirect_slashes = False
    return app


@pytest.fixture(name="served", scope="module")
def _served() -> Iterator[Served]:
    ends = [f"{own}/callback" for own in (OWN, SECURE)]
    logouts = [f"{own}/logout" for own in (OWN, SECURE)]
    console = Registered("console", secret="console-secret", redirect_uris=ends, post_logout_uris=logouts)
    with running_provider([console]) as served:
        yield served


@pytest.fixture(name="stack")
async def _stack(served: Served) -> AsyncIterator[Stack]:
    served.reset()
    clock, discovery = Clock(), Discovery(served.issuer)
    client = Client(discovery, served.issuer, "console", "console-secret", clock=clock)
    yield Stack(client, clock)
    await client.close()
    await discovery.close()


def _set_cookies(response: httpx.Response) -> dict[str, list[str]]:
    """Return the attributes of the cookies that a response sets, by name and path."""
    lines = (line.split("; ") for line in response.headers.get_list("set-cookie"))
    return {f"{first.partition('=')[0]} {rest[0]}": rest[1:] for first, *rest in lines}


async def _callback_url(browser: Browser, login: str = f"{OWN}/login") -> str:
    """Let the browser log in until it would open the callback; return the address of that."""
    response = await browser.step(login)
    provider = await browser.step(response.headers["location"])
    assert provider.status_code == HTTPStatus.FOUND, provider.text
    return str(provider.headers["location"])


async def test_a_login_ends_at_its_target_with_a_session(served: Served, stack: Stack) -> None:
    async with stack.browser() as browser:
        end = await browser.open(f"{OWN}/login?redirect_url=/console%3Fa=b")
        assert end.json()["url"] == f"{OWN}/console?a=b"
        claims = claims_of(browser.cookies[SESSION])
    assert (claims["sub"], claims["aud"], claims["iss"]) == ("ann", "console", served.issuer)
    first = next(response for response in end.history if response.url.path == "/login")
    asked = parse_qs(urlsplit(first.headers["location"]).query)
    assert asked["nonce"] == [claims["nonce"]]
    assert asked["scope"] == ["openid profile offline_access"]
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["redirect_uri"] == [f"{OWN}/callback"]


@pytest.mark.parametrize(
    ("supported", "asked"),
    [(("openid", "email"), "openid profile"), ((), "openid profile offline_access")],
    ids=["no refresh tokens", "unknown"],
)
async def test_no_refresh_token_is_asked_for_where_there_is_none(
    served: Served, stack: Stack, supported: tuple[str, ...], asked: str
) -> None:
    served.scopes = supported
    async with stack.browser() as browser:
        location = (await browser.step(f"{OWN}/login")).headers["location"]
    assert parse_qs(urlsplit(location).query)["scope"] == [asked]


async def test_a_login_without_a_target_shows_who_is_logged_in(stack: Stack) -> None:
    async with stack.browser() as browser:
        assert (await browser.open(f"{OWN}/login")).json()["url"] == f"{OWN}/me"


async def test_cookies_are_for_the_gateway_alone(served: Served, stack: Stack) -> None:
    served.auto_approve = "ann"
    async with stack.browser() as browser:
        begun = await browser.step(f"{OWN}/login")
        ended = await browser.step(await _callback_url(browser))
    usual = ["HttpOnly", "SameSite=Lax"]
    assert _set_cookies(begun) == {f"{SECRET} Path=/": ["Max-Age=600", *usual]}
    cookies = _set_cookies(ended)
    seconds = {name: int(attributes.pop(0).removeprefix("Max-Age=")) for name, attributes in cookies.items()}
    assert cookies == {f"{SESSION} Path=/": usual, f"{REFRESH} Path=/login": usual, f"{REFRESH} Path=/logout": usual}
    assert 290 <= seconds[f"{SESSION} Path=/"] <= 300
    for response in (begun, ended):
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["referrer-policy"] == "no-referrer"


async def test_cookies_of_https_are_secure(served: Served, stack: Stack) -> None:
    served.auto_approve = "ann"
    async with stack.browser() as browser:
        begun = await browser.step(f"{SECURE}/login")
        ended = await browser.step(await _callback_url(browser, f"{SECURE}/login"))
        assert SESSION in browser.cookies
    assert list(_set_cookies(begun)) == [f"__Host-{SECRET} Path=/"]
    every = [*_set_cookies(begun).values(), *_set_cookies(ended).values()]
    assert len(every) == 4
    assert all("Secure" in attributes and "HttpOnly" in attributes for attributes in every)


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example",
        "//evil.example",
        "/%5Cevil.example",
        "/%09/evil.example",
        f"{OWN}@evil.example",
        "/a%0d%0aSet-Cookie:%20a=b",
        "/a%0aLocation:%20b",
        "javascript:alert(1)",
    ],
)
@pytest.mark.parametrize("path", ["login", "logout"])
async def test_no_other_place_is_a_target(stack: Stack, path: str, target: str) -> None:
    async with stack.browser() as browser:
        response = await browser.step(f"{OWN}/{path}?redirect_url={target}")
    assert response.status_code == HTTPStatus.BAD_REQUEST
    assert NOT_THERE in response.text
    assert not {"location", "set-cookie", "a"} & set(response.headers)


async def test_a_listed_origin_is_a_target(served: Served, stack: Stack) -> None:
    served.auto_approve = "ann"
    async with stack.browser() as browser:
        ended = await browser.step(await _callback_url(browser, f"{OWN}/login?redirect_url={CONSOLE}/a%23b"))
    assert ended.headers["location"] == f"{CONSOLE}/a#b"


async def test_a_callback_in_another_browser_is_refused(served: Served, stack: Stack) -> None:
    served.auto_approve = "mallory"
    async with stack.browser() as mallory, stack.browser() as victim:
        url = await _callback_url(mallory)
        before = len(served.requests)
        for _ in range(2):
            response = await victim.step(url)
            assert response.status_code == HTTPStatus.UNAUTHORIZED
            assert "set-cookie" not in response.headers
            assert f'href="{OWN}/login"' in response.text
            await victim.step(f"{OWN}/login")  # now with a login of its own under way
    assert "/token" not in served.requests[before:]


@pytest.mark.parametrize("query", ["", "code=a", "state=a", "code=a&state=a.b", "code=a&state=%0d%0a", "error=x"])
async def test_a_callback_without_a_login_is_refused(served: Served, stack: Stack, query: str) -> None:
    async with stack.browser() as browser:
        await browser.step(f"{OWN}/login")
        response = await browser.step(f"{OWN}/callback?{query}")
    assert response.status_code == HTTPStatus.UNAUTHORIZED
    assert "/token" not in served.requests


async def test_a_callback_works_once(served: Served, stack: Stack) -> None:
    served.auto_approve = "ann"
    async with stack.browser() as browser:
        url = await _callback_url(browser)
        await browser.step(url)
        session = browser.cookies[SESSION]
        again = await browser.step(url)
        assert again.status_code == HTTPStatus.FORBIDDEN
        assert "invalid_grant" in again.text
        assert browser.cookies[SESSION] == session


async def test_a_login_that_takes_too_long_is_refused(served: Served, stack: Stack) -> None:
    served.auto_approve = "ann"
    async with stack.browser() as browser:
        url = await _callback_url(browser)
        stack.clock.late = 601
        response = await browser.step(url)
    assert response.status_code == HTTPStatus.UNAUTHORIZED
    assert "more than 10 minutes" in response.text


async def test_two_tabs_log_in_at_once(served: Served, stack: Stack) -> None:
    served.auto_approve = "ann"
    async with stack.browser() as browser:
        urls = [await _callback_url(browser, f"{OWN}/login?redirect_url=/console%3F{tab}") for tab in "ab"]
        ends = [await browser.step(url) for url in reversed(urls)]
    assert [end.headers["location"] for end in ends] == ["/console?b", "/console?a"]


@pytest.mark.parametrize("fault", [DOWN, NONSENSE])
async def test_a_provider_that_fails_at_the_callback_is_tried_again(served: Served, stack: Stack, fault: Any) -> None:
    served.auto_approve = "ann"
    served.faults["/token"] = fault
    async with stack.browser() as browser:
        failed = await browser.step(await _callback_url(browser, f"{OWN}/login?redirect_url=/console%3Fa=b"))
        assert failed.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert SESSION not in browser.cookies
        served.faults.clear()
        link = re.search('href="([^"]+)"', failed.text)
        assert link
        assert (await browser.open(OWN + link[1])).json()["url"] == f"{OWN}/console?a=b"


async def test_no_login_begins_while_the_provider_is_away(served: Served, stack: Stack) -> None:
    served.faults["/.well-known/openid-configuration"] = DOWN
    async with stack.browser() as browser:
        response = await browser.step(f"{OWN}/login")
    assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert "set-cookie" not in response.headers


async def test_the_words_of_the_provider_are_text(stack: Stack) -> None:
    async with stack.browser() as browser:
        asked = (await browser.step(f"{OWN}/login")).headers["location"]
        state = parse_qs(urlsplit(asked).query)["state"][0]
        response = await browser.step(f"{OWN}/callback?state={state}&error=%3Cscript%3Ealert(1)%3C/script%3E")
    assert response.status_code == HTTPStatus.FORBIDDEN
    assert "&lt;script&gt;" in response.text
    assert "<script" not in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]


async def test_a_code_of_another_provider_is_refused(served: Served, stack: Stack) -> None:
    served.auto_approve = "ann"
    async with stack.browser() as browser:
        url = await _callback_url(browser)
        assert "/token" not in served.requests
        response = await browser.step(f"{url}&iss=https://evil.example")
        assert response.status_code == HTTPStatus.FORBIDDEN
        assert "/token" not in served.requests
        assert (await browser.step(f"{url}&iss={served.issuer}")).status_code == HTTPStatus.TEMPORARY_REDIRECT


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        ({"nonce": "another"}, "belongs to another login"),
        ({"nonce": None}, "belongs to another login"),
        ({"iss": "https://evil.example"}, "of another issuer"),
        ({"aud": "other"}, "for another client"),
        ({"aud": None}, "for another client"),
        ({"exp": 1}, "has expired"),
        ({"exp": None}, "has expired"),
        ({"exp": "soon"}, "has expired"),
    ],
)
async def test_an_id_token_of_something_else_is_refused(
    served: Served, stack: Stack, claims: dict[str, Any], text: str
) -> None:
    served.auto_approve = "ann"
    served.id_token_claims |= claims
    async with stack.browser() as browser:
        response = await browser.step(await _callback_url(browser))
        assert response.status_code == HTTPStatus.FORBIDDEN
        assert text in response.text
        assert SESSION not in browser.cookies


async def test_an_id_token_may_be_for_several(served: Served, stack: Stack) -> None:
    served.auto_approve = "ann"
    served.id_token_claims["aud"] = ["other", "console"]
    async with stack.browser() as browser:
        assert (await browser.open(f"{OWN}/login")).json()["url"] == f"{OWN}/me"


async def test_a_token_that_no_cookie_holds_is_refused_with_its_size(served: Served, stack: Stack) -> None:
    served.auto_approve = "ann"
    served.users["ann"] = {"groups": [f"group-{number}" for number in range(500)]}
    async with stack.browser() as browser:
        response = await browser.step(await _callback_url(browser))
        assert response.status_code == HTTPStatus.FORBIDDEN
        assert f"but browsers keep {MOST_TOKEN_BYTES}" in response.text
        assert "fewer claims" in response.text
        assert SESSION not in browser.cookies


async def test_a_session_goes_on_without_the_user(served: Served, stack: Stack) -> None:
    async with stack.browser() as browser:
        await browser.open(f"{OWN}/login")
        former = browser.cookies
        before = len(served.requests)
        response = await browser.step(f"{OWN}/login?redirect_url=/console")
        assert response.headers["location"] == "/console"
        assert browser.cookies[REFRESH] != former[REFRESH]
        assert claims_of(browser.cookies[SESSION])["sub"] == "ann"
        assert served.requests[before:] == ["/token"]


async def test_a_session_that_cannot_go_on_begins_anew(served: Served, stack: Stack) -> None:
    async with stack.browser() as browser:
        await browser.open(f"{OWN}/login")
        served.issued.refresh_tokens.clear()
        end = await browser.open(f"{OWN}/login?redirect_url=/console")
    assert end.json()["url"] == f"{OWN}/console"
    assert "/callback" in [response.url.path for response in end.history]


async def test_a_logout_ends_the_session_here_and_at_the_provider(served: Served, stack: Stack) -> None:
    async with stack.browser() as browser:
        await browser.open(f"{OWN}/login")
        end = await browser.open(f"{OWN}/logout?redirect_url=/console")
        assert end.json() == {"url": f"{OWN}/console", "cookies": {}}
        assert "/logout" in served.requests
        assert not served.issued.refresh_tokens
        assert "Log in" in (await browser.open(f"{OWN}/login")).history[1].text  # the provider's form again


@pytest.mark.parametrize("fault", ["hidden", "down"])
async def test_a_logout_needs_no_provider(served: Served, stack: Stack, fault: str) -> None:
    async with stack.browser() as browser:
        if fault == "hidden":
            served.hidden = ("end_session_endpoint", "revocation_endpoint")
        await browser.open(f"{OWN}/login")
        if fault == "down":
            served.faults |= {"/revoke": DOWN, "/logout": DOWN}
        end = await browser.step(f"{OWN}/logout")
        assert SESSION not in browser.cookies
    assert end.status_code == (HTTPStatus.OK if fault == "hidden" else HTTPStatus.TEMPORARY_REDIRECT)


async def test_a_logout_without_a_session_is_one(stack: Stack) -> None:
    async with stack.browser() as browser:
        assert "Your session has ended" in (await browser.step(f"{OWN}/logout")).text
        assert (await browser.step(f"{OWN}/logout?redirect_url=/console")).headers["location"] == "/console"


async def test_another_site_ends_no_session(stack: Stack) -> None:
    async with stack.browser() as browser:
        await browser.open(f"{OWN}/login")
        response = await browser.step(f"{OWN}/logout", headers={"Sec-Fetch-Site": "cross-site"})
        assert response.status_code == HTTPStatus.FORBIDDEN
        assert "set-cookie" not in response.headers
        assert SESSION in browser.cookies


async def test_long_queries_and_other_verbs_are_refused(stack: Stack) -> None:
    async with httpx.AsyncClient(mounts=stack.mounts) as client:
        assert (await client.get(f"{OWN}/callback?{'a' * 8193}")).status_code == HTTPStatus.REQUEST_URI_TOO_LONG
        for verb in ("HEAD", "POST", "PUT"):
            response = await client.request(verb, f"{OWN}/callback")
            assert response.status_code == HTTPStatus.METHOD_NOT_ALLOWED
