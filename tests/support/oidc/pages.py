"""The provider's endpoints, and its two pages: who logs in, and which device."""

import asyncio
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from authlib.oauth2 import OAuth2Error
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.support.oidc.grants import FormRequest

if TYPE_CHECKING:
    from tests.support.oidc.provider import Provider

REALM = "/realm"
"""The path of the issuer: that of many providers is not the root."""
SESSION = "provider_session"
_ALWAYS = REALM + "/up"


def application(provider: "Provider") -> ASGIApp:
    """Return the application of a provider."""
    pages = _Pages(provider)
    app = Starlette(
        routes=[
            Route(_ALWAYS, pages.up),
            Route(REALM + "/.well-known/openid-configuration", pages.discovery),
            Route(REALM + "/keys", pages.keys),
            Route(REALM + "/authorize", pages.authorize, methods=["GET", "POST"]),
            Route(REALM + "/device_code", pages.device_code, methods=["POST"]),
            Route(REALM + "/device", pages.device, methods=["GET", "POST"]),
            Route(REALM + "/token", pages.token, methods=["POST"]),
            Route(REALM + "/userinfo", pages.userinfo),
            Route(REALM + "/revoke", pages.revoke, methods=["POST"]),
            Route(REALM + "/logout", pages.logout),
        ]
    )
    return _Faulty(app, provider)


class _Faulty:
    """The application with the faults that a test has set."""

    def __init__(self, app: ASGIApp, provider: "Provider") -> None:
        self._app = app
        self._provider = provider

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == _ALWAYS:
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(REALM)
        self._provider.requests.append(path)
        fault = self._provider.faults.get(path)
        if fault is None:
            await self._app(scope, receive, send)
            return
        await asyncio.sleep(fault.delay_seconds)
        answer = self._app if fault.status is None else Response(fault.body, fault.status, media_type=fault.media_type)
        await answer(scope, receive, send)


class _Pages:
    def __init__(self, provider: "Provider") -> None:
        self._provider = provider

    async def up(self, _: Request) -> Response:
        return Response()

    async def discovery(self, _: Request) -> Response:
        return JSONResponse(self._provider.metadata())

    async def keys(self, _: Request) -> Response:
        return JSONResponse(self._provider.keys.as_json())

    async def authorize(self, request: Request) -> Response:
        """Give a code to a browser that is logged in, or whose user has just typed a name; else ask for one."""
        pairs = parse_qsl(request.url.query, keep_blank_values=True)
        asked = FormRequest("GET", str(request.url), request.headers, pairs)
        server = self._provider.server
        try:
            grant = server.get_consent_grant(asked)
        except OAuth2Error as error:
            refusal: Response = server.handle_error_response(asked, error)
            return refusal
        user = self._provider.auto_approve or await _typed_user(request) or self._known_user(request, dict(pairs))
        if not user:
            return _form("Log in", "user", f"?{request.url.query}")
        response: Response = server.create_authorization_response(asked, grant_user=user, grant=grant)
        response.set_cookie(SESSION, user, path=REALM, httponly=True, samesite="lax")
        return response

    def _known_user(self, request: Request, asked: dict[str, str]) -> str | None:
        return None if asked.get("prompt") == "login" else request.cookies.get(SESSION)

    async def token(self, request: Request) -> Response:
        response: Response = self._provider.server.create_token_response(await _posted(request))
        return response

    async def device_code(self, request: Request) -> Response:
        asked = await _posted(request)
        response: Response = self._provider.server.create_endpoint_response("device_authorization", asked)
        return response

    async def device(self, request: Request) -> Response:
        """Approve the device whose code the user has."""
        code = request.query_params.get("user_code", "")
        user = self._provider.auto_approve or await _typed_user(request)
        if not user:
            return _form("A device wants to log in", "user", f"?{urlencode({'user_code': code})}")
        found = self._provider.issued.device_code_of(code)
        if not found:
            return HTMLResponse("<p>No device has this code.</p>", 404)
        found.user = user
        return HTMLResponse("<p>The device is logged in.</p>")

    async def revoke(self, request: Request) -> Response:
        response: Response = self._provider.server.create_endpoint_response("revocation", await _posted(request))
        return response

    async def userinfo(self, request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        user = self._provider.user_of(token) if scheme.lower() == "bearer" else None
        if user is None:
            return JSONResponse({"error": "invalid_token"}, 401, {"www-authenticate": "Bearer"})
        return JSONResponse(self._provider.user_claims(user))

    async def logout(self, request: Request) -> Response:
        """End the browser's session, and send it back if its client may have that."""
        query = request.query_params
        back = query.get("post_logout_redirect_uri", "")
        client = self._provider.clients.get(self._provider.client_of_hint(query.get("id_token_hint", "")))
        if back and (client is None or back not in client.post_logout_uris):
            return HTMLResponse("<p>This client may not have that address.</p>", 400)
        state = {"state": query["state"]} if "state" in query else {}
        response: Response = HTMLResponse("<p>You are logged out.</p>")
        if back:
            response = RedirectResponse(f"{back}?{urlencode(state)}" if state else back, 302)
        response.delete_cookie(SESSION, path=REALM)
        return response


async def _posted(request: Request) -> FormRequest:
    return FormRequest("POST", str(request.url), request.headers, await _form_pairs(request))


async def _form_pairs(request: Request) -> Sequence[tuple[str, str]]:
    return parse_qsl((await request.body()).decode(), keep_blank_values=True)


async def _typed_user(request: Request) -> str | None:
    return dict(await _form_pairs(request)).get("user") if request.method == "POST" else None


def _form(title: str, field: str, action: str) -> HTMLResponse:
    return HTMLResponse(
        f"<!doctype html><title>{title}</title><h1>{title}</h1>"
        f'<form method="post" action="{html.escape(action)}">'
        f'<input name="{field}" autofocus><button>Continue</button></form>'
    )
