"""The HTTP routes of a browser's login, behind the gateway (gateway.md#login-of-browsers)."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hmac import compare_digest
from urllib.parse import quote, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.kit.errors import InvalidArgument, PermissionDenied, ServiceError
from services.projects.login.client import Client, Session
from services.projects.login.cookies import MOST_TOKEN_BYTES, SESSION, Cookies, fits, refresh_token
from services.projects.login.pages import page, redirect
from services.projects.rules import login
from services.projects.rules.login import PendingLogin, checked_target

log = logging.getLogger(__name__)

_LOGIN, _CALLBACK, _LOGOUT = "/login", "/callback", "/logout"
_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _NOT_ALLOWED, _TOO_LONG, _UNAVAILABLE = 400, 401, 403, 405, 414, 503
# The longest addresses that a login makes have a state with a target of 1 KB and a code of some KB.
_MOST_QUERY_BYTES = 8192


class BrowserLogin:
    """The three routes.

    Args:
        client: the OAuth client of browsers.
        scopes: what it asks for.
        public_url: the gateway as browsers reach it.
        origins: origins, in addition to the gateway's own, to which browsers may be sent back.
        clock: returns the seconds since 1970.
    """

    def __init__(
        self, client: Client, scopes: Sequence[str], public_url: str, origins: Sequence[str], clock: Callable[[], float]
    ) -> None:
        parts = urlsplit(public_url)
        own = f"{parts.scheme}://{parts.netloc}"
        self._client = client
        self._scopes = scopes
        self._own = own
        self._origins = (own, *origins)
        self._cookies = Cookies(secure=parts.scheme == "https")
        self._clock = clock

    @property
    def routes(self) -> list[Route]:
        """The routes; each is for GET alone."""
        handlers = {_LOGIN: self._log_in, _CALLBACK: self._call_back, _LOGOUT: self._log_out}
        return [Route(path, _guarded(handler), methods=["GET"]) for path, handler in handlers.items()]

    async def _log_in(self, request: Request) -> Response:
        """Send the browser to the provider, or with a new session to its target if it has a refresh token."""
        target = checked_target(request.query_params.get("redirect_url", ""), self._origins)
        if token := refresh_token(request.cookies):
            try:
                return self._ended(await self._client.refresh(token), target)
            except PermissionDenied as error:
                log.info("a refresh token is refused", extra={"cause": error.message})
        secret = self._cookies.secret(request.cookies) or login.new_secret()
        response = redirect(await self._authorization_url(login.begin(secret, target, self._clock())))
        self._cookies.set_secret(response, secret)
        return response

    async def _authorization_url(self, pending: PendingLogin) -> str:
        query = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": self._own + _CALLBACK,
            "scope": await self._client.scopes(self._scopes),
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": pending.challenge,
            "code_challenge_method": "S256",
        }
        return _with_query(await self._client.authorization_endpoint(), query)

    async def _call_back(self, request: Request) -> Response:
        """Redeem the code that the provider sends, and send the browser with its session to its target."""
        query = request.query_params
        try:
            secret = self._cookies.secret(request.cookies)
            pending = login.resume(secret, query.get("state", ""), self._clock())
        except PermissionDenied as error:
            # 401 as flyteadmin's (gateway.md#login-of-browsers).
            return page(_UNAUTHORIZED, "Not logged in", f"{error.message}.", self._own + _LOGIN, "Log in")
        again = f"{_LOGIN}?redirect_url={quote(pending.target, safe='/')}"
        try:
            session = await self._redeem(query.get("iss"), query.get("error"), query.get("code"), pending)
            return self._ended(session, pending.target)
        except ServiceError as error:
            log.warning("a login failed", extra={"cause": error.message})
            status = _FORBIDDEN if isinstance(error, PermissionDenied) else _UNAVAILABLE
            return page(status, "Not logged in", f"{error.message}.", again, "Try again")

    async def _redeem(self, issuer: str | None, error: str | None, code: str | None, pending: PendingLogin) -> Session:
        # A code of another provider must not be sent to this one (RFC 9207).
        if issuer is not None and not compare_digest(issuer.encode(), self._client.issuer.encode()):
            raise PermissionDenied("the response comes from another identity provider")
        if error is not None or not code:
            raise PermissionDenied(f"the identity provider refuses: {(error or 'it sends no code')[:200]}")
        return await self._client.redeem(code, self._own + _CALLBACK, pending.verifier, pending.nonce)

    def _ended(self, session: Session, target: str) -> Response:
        """Return the redirect to the target that gives the browser its session."""
        if not fits(session.id_token):
            raise PermissionDenied(
                f"the ID token has {len(session.id_token)} bytes, but browsers keep {MOST_TOKEN_BYTES}: the identity "
                f"provider must put fewer claims, such as groups, into ID tokens for {self._client.client_id}"
            )
        response = redirect(target)
        self._cookies.set_session(response, session, self._clock())
        return response

    async def _log_out(self, request: Request) -> Response:
        """End the session of the browser, and that at the provider if it has an endpoint for that.

        The provider sends the browser back here, with the target as `state`; by then the browser has no session.
        """
        query = request.query_params
        text = query.get("redirect_url", "") or query.get("state", "")
        target = checked_target(text, self._origins) if text else ""
        id_token = request.cookies.get(SESSION, "")
        token = refresh_token(request.cookies)
        if (id_token or token) and request.headers.get("sec-fetch-site") == "cross-site":
            # Another site has sent the browser here: it may not end sessions.
            again = f"{_LOGOUT}?redirect_url={quote(target, safe='/')}" if target else _LOGOUT
            return page(_FORBIDDEN, "Log out?", "Another site asks for that.", again, "Log out")
        response = await self._after_logout(id_token, target)
        self._cookies.clear(response)
        if token:
            await self._client.revoke(token)
        return response

    async def _after_logout(self, id_token: str, target: str) -> Response:
        if id_token and fits(id_token) and (url := await self._client.end_session_endpoint()):
            query = {
                "id_token_hint": id_token,
                "client_id": self._client.client_id,
                "post_logout_redirect_uri": self._own + _LOGOUT,
                **({"state": target} if target else {}),
            }
            return redirect(_with_query(url, query))
        return redirect(target) if target else page(200, "Logged out", "Your session has ended.", _LOGIN, "Log in")


def _guarded(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Return a handler whose errors are pages."""

    async def handle(request: Request) -> Response:
        if request.method != "GET":  # starlette routes HEAD, too, with which programs look at links
            return page(_NOT_ALLOWED, "Not possible", "Only GET is.")
        if len(request.scope["query_string"]) > _MOST_QUERY_BYTES:
            return page(_TOO_LONG, "Too long", f"The query may have {_MOST_QUERY_BYTES} bytes.")
        try:
            return await handler(request)
        except InvalidArgument as error:
            return page(_BAD_REQUEST, "Not possible", f"{error.message}.")
        except ServiceError as error:
            log.warning("no login is possible", extra={"cause": error.message})
            return page(_UNAVAILABLE, "Not possible now", f"{error.message}.", _LOGIN, "Try again")

    return handle


def _with_query(url: str, query: Mapping[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"
