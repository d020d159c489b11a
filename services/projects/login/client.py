"""An OAuth client at its provider: codes and refresh tokens for ID tokens (OpenID Connect Core 1.0, 3.1.3)."""

import asyncio
import json
import logging
import ssl
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hmac import compare_digest
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from services.kit.errors import PermissionDenied, ServiceError, Unavailable
from services.projects.login.discovery import Discovery

log = logging.getLogger(__name__)

# The scope for refresh tokens; some providers refuse a login with a scope that they do not know.
OFFLINE_ACCESS = "offline_access"

# For a request and its response: a person waits for it.
_REQUEST_SECONDS = 5.0
# Responses with three tokens have some 10 KB.
_MOST_BYTES = 1024 * 1024
_MOST_CONNECTIONS = 32
_BASIC, _POST = "client_secret_basic", "client_secret_post"
_TOO_MANY_REQUESTS, _SERVER_ERROR, _CLIENT_ERROR = 429, 500, 400


@dataclass(frozen=True)
class Session:
    """What a provider gave for a login.

    Attributes:
        id_token: says who the user is.
        expires_at: when it expires, in seconds since 1970.
        refresh_token: good for a new session; "" when the provider gives none.
    """

    id_token: str = field(repr=False)
    expires_at: int
    refresh_token: str = field(repr=False)


class Client:
    """A client that is registered at a provider.

    Args:
        discovery: where the provider's endpoints are.
        issuer: the provider, as in the claim `iss` of its tokens.
        client_id: its id there.
        secret: its secret; empty for a public client.
        ca_file: certificates of the authorities of the provider's certificate; none: the usual ones.
        clock: returns the seconds since 1970.
    """

    def __init__(
        self,
        discovery: Discovery,
        issuer: str,
        client_id: str,
        secret: str,
        ca_file: Path | None = None,
        *,
        clock: Callable[[], float],
    ) -> None:
        verify = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=verify, limit=_MOST_CONNECTIONS),
            headers={"Accept": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._discovery = discovery
        self.issuer = issuer
        self.client_id = client_id
        self._secret = secret
        self._clock = clock

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def authorization_endpoint(self) -> str:
        """Return where browsers log in; raise ServiceError if it is not known."""
        url = (await self._discovery.metadata()).authorization_endpoint
        if not url:
            raise Unavailable("the identity provider has no authorization_endpoint")
        return url

    async def scopes(self, wanted: Sequence[str]) -> str:
        """Return the scopes to log in with: `wanted`, without refresh tokens at a provider that says it has none."""
        supported = (await self._discovery.metadata()).scopes_supported
        left_out = OFFLINE_ACCESS if supported and OFFLINE_ACCESS not in supported else ""
        return " ".join(scope for scope in wanted if scope != left_out)

    async def end_session_endpoint(self) -> str:
        """Return where browsers log out, "" if there is no such place or it is not known."""
        try:
            return (await self._discovery.metadata()).end_session_endpoint
        except ServiceError as error:
            log.warning("a session at the identity provider goes on", extra={"cause": error.message})
            return ""

    async def redeem(self, code: str, redirect_uri: str, verifier: str, nonce: str) -> Session:
        """Return the session that an authorization code stands for.

        Args:
            code: the code.
            redirect_uri: where the provider sent it to.
            verifier: the verifier of its PKCE challenge.
            nonce: that of the login, which the ID token must have.

        Raises:
            PermissionDenied: the provider refuses, or the ID token is not for this login.
            Unavailable: the provider does not respond; FailedPrecondition: it is another one.
        """
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        session, claims = await self._session(form | {"code_verifier": verifier})
        if not compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise PermissionDenied("the ID token belongs to another login")
        return session

    async def refresh(self, refresh_token: str) -> Session:
        """Return a new session, whose refresh token replaces this one; errors as `redeem`."""
        session, _ = await self._session({"grant_type": "refresh_token", "refresh_token": refresh_token})
        return session if session.refresh_token else Session(session.id_token, session.expires_at, refresh_token)

    async def revoke(self, refresh_token: str) -> None:
        """Give a refresh token back, if the provider has an endpoint for that; a failure is logged."""
        try:
            if url := (await self._discovery.metadata()).revocation_endpoint:
                await self._send(url, {"token": refresh_token, "token_type_hint": "refresh_token"})
        except ServiceError as error:
            log.warning("a refresh token is not revoked", extra={"cause": error.message})

    async def _session(self, form: Mapping[str, str]) -> tuple[Session, Mapping[str, Any]]:
        body = await self._send((await self._discovery.metadata()).token_endpoint, form)
        id_token, refresh_token = body.get("id_token"), body.get("refresh_token")
        if not isinstance(id_token, str):
            raise PermissionDenied("the identity provider gives no ID token: is openid among the scopes?")
        claims = self._checked(id_token)
        return Session(id_token, int(claims["exp"]), refresh_token if isinstance(refresh_token, str) else ""), claims

    async def _send(self, url: str, form: Mapping[str, str]) -> Mapping[str, Any]:
        """Send a form with the client's credentials; return the JSON object of the response, {} without a body.

        Raises:
            PermissionDenied: the provider refuses.
            Unavailable: it does not respond in time, or with anything else.
        """
        status, content = await self._post(url, **await self._authenticated(form))
        try:
            body = json.loads(content or b"{}")
        except (ValueError, RecursionError):
            body = None
        if status >= _SERVER_ERROR or status == _TOO_MANY_REQUESTS or not isinstance(body, dict):
            raise Unavailable(f"the identity provider responds to a form with status {status}")
        if status >= _CLIENT_ERROR:
            raise PermissionDenied(f"the identity provider refuses: {_error_of(body)}")
        return body

    async def _authenticated(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Return aiohttp's options for a form with the client's credentials, in a way that the provider supports."""
        if not self._secret:
            return {"data": {**form, "client_id": self.client_id}}
        methods = (await self._discovery.metadata()).token_endpoint_auth_methods_supported
        if _POST in methods and _BASIC not in methods:
            return {"data": {**form, "client_id": self.client_id, "client_secret": self._secret}}
        # Encoded first as in a form (RFC 6749, 2.3.1), a blank in the way that servers decode who read no plus signs.
        basic = aiohttp.encode_basic_auth(quote(self.client_id, safe=""), quote(self._secret, safe=""))
        return {"data": form, "headers": {"Authorization": basic}}

    async def _post(self, url: str, **options: Any) -> tuple[int, bytes]:
        content = b""
        try:
            async with (
                asyncio.timeout(_REQUEST_SECONDS),
                self._http.post(url, allow_redirects=False, **options) as response,
            ):
                async for piece in response.content.iter_any():
                    content += piece
                    if len(content) > _MOST_BYTES:
                        raise Unavailable("the response of the identity provider is too long")
        except (aiohttp.ClientError, TimeoutError) as error:
            cause = str(error) or type(error).__name__
            raise Unavailable(f"the identity provider {self.issuer} is not available: {cause}") from error
        return response.status, content

    def _checked(self, id_token: str) -> Mapping[str, Any]:
        """Return the claims of an ID token; raise PermissionDenied unless it is for this client.

        It comes from the provider itself, so its signature need not be checked (OpenID Connect Core 1.0, 3.1.3.7). The
        gateway checks it when the browser sends it.
        """
        claims = claims_of(id_token)
        audience = claims.get("aud")
        if claims.get("iss") != self.issuer:
            raise PermissionDenied("the ID token is of another issuer")
        if self.client_id != audience and not (isinstance(audience, list) and self.client_id in audience):
            raise PermissionDenied("the ID token is for another client")
        expires_at = claims.get("exp")
        if not isinstance(expires_at, int | float) or not isfinite(expires_at) or expires_at <= self._clock():
            raise PermissionDenied("the ID token has expired")
        return claims


def claims_of(token: str) -> Mapping[str, Any]:
    """Return the claims of a token, whatever its signature; raise PermissionDenied if it has none."""
    try:
        _, payload, _ = token.split(".")
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise PermissionDenied("the ID token cannot be read")
    return claims


def _error_of(body: Mapping[str, Any]) -> str:
    """Return the provider's error, cut, as it is shown to people."""
    return ": ".join(str(body[key])[:200] for key in ("error", "error_description") if body.get(key)) or "no reason"
