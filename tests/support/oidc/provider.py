"""The provider as tests use it: its knobs, the tokens it makes, and the server that it runs on."""

import secrets
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from tests.support.oidc.clients import DEVICE_CODE, Client, usual_clients
from tests.support.oidc.grants import AUTHENTICATION_METHODS, FormRequest, Issued, authorization_server
from tests.support.oidc.keys import ALGORITHM, SigningKeys
from tests.support.oidc.pages import REALM, application
from tests.support.oidc.tokens import access_claims, claims_of, id_claims, signed
from tests.support.parts import await_port, free_port

AUDIENCE = "https://flyte.example"
"""The audience of access tokens, unless a client asks for another."""
_EXPIRES_IN = 300.0
SCOPES = ("openid", "profile", "email", "offline_access", "all")


@dataclass(frozen=True)
class Fault:
    """How an endpoint misbehaves.

    Attributes:
        delay_seconds: how long it waits first.
        status: the HTTP status of an answer in place of its own; None: its own.
        body: that answer.
        media_type: the type of that answer.
    """

    delay_seconds: float = 0
    status: int | None = None
    body: str = ""
    media_type: str = "text/html"


DOWN = Fault(status=503, body="<h1>Service Unavailable</h1>")
NONSENSE = Fault(status=200, body="<h1>Welcome</h1>")
NO_OBJECT = Fault(status=200, body="[1, 2]", media_type="application/json")


class Provider:
    """A provider. Its attributes may be changed while it runs.

    Attributes:
        issuer: its URL.
        keys: its signing keys.
        clients: registered clients, by id.
        issued: what it has issued.
        users: claims of users by name, in addition to and in place of `sub`, `name` and `email`.
        auto_approve: the user as whom every browser is logged in without a form; empty: the form asks.
        id_token_claims: claims of ID tokens, in place of the right ones; one that is None is left out.
        expires_in: seconds for which its tokens are valid.
        faults: how its endpoints misbehave, by path, such as `/token`.
        requests: the paths of all requests so far.
        scopes: the scopes that its discovery document lists.
        hidden: names that its discovery document leaves out.
    """

    def __init__(self, clients: Sequence[Client], certificate: tuple[Path, Path] | None = None) -> None:
        self._port = free_port()
        self._certificate = certificate
        self._running: tuple[uvicorn.Server, threading.Thread] | None = None
        self.issuer = f"{'https' if certificate else 'http'}://localhost:{self._port}{REALM}"
        self.keys = SigningKeys()
        self.clients = {client.client_id: client for client in clients}
        self.issued = Issued()
        self.users: dict[str, dict[str, Any]] = {}
        self.auto_approve = ""
        self.id_token_claims: dict[str, Any] = {}
        self.expires_in = _EXPIRES_IN
        self.faults: dict[str, Fault] = {}
        self.requests: list[str] = []
        self.scopes: Sequence[str] = SCOPES
        self.hidden: Collection[str] = ()
        self.server = authorization_server(self.clients, self.issued, self._make_tokens, f"{self.issuer}/device")

    def reset(self) -> None:
        """Take back all that a test may have changed, except keys; what was issued is good no more."""
        self.users.clear()
        self.faults.clear()
        self.requests.clear()
        self.id_token_claims.clear()
        self.auto_approve, self.expires_in, self.hidden, self.scopes = "", _EXPIRES_IN, (), SCOPES
        for issued in (self.issued.codes, self.issued.device_codes, self.issued.refresh_tokens):
            issued.clear()

    @property
    def keys_url(self) -> str:
        """Where its keys are."""
        return f"{self.issuer}/keys"

    def start(self) -> None:
        """Listen, on the same port as before."""
        certificate, key = self._certificate or (None, None)
        config = uvicorn.Config(
            application(self),
            host="127.0.0.1",
            port=self._port,
            log_config=None,
            lifespan="off",
            ws="none",
            ssl_certfile=certificate,
            ssl_keyfile=key,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        self._running = (server, thread)
        await_port(self._port)

    def stop(self) -> None:
        """Listen no more, and cut the connections."""
        if self._running:
            server, thread = self._running
            server.should_exit = server.force_exit = True
            thread.join()
            self._running = None

    def metadata(self) -> dict[str, Any]:
        """Return the discovery document."""
        endpoints = {
            "authorization": "authorize",
            "token": "token",
            "userinfo": "userinfo",
            "revocation": "revoke",
            "end_session": "logout",
            "device_authorization": "device_code",
        }
        document = {
            "issuer": self.issuer,
            **{f"{name}_endpoint": f"{self.issuer}/{path}" for name, path in endpoints.items()},
            "jwks_uri": self.keys_url,
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token", DEVICE_CODE],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "token_endpoint_auth_methods_supported": AUTHENTICATION_METHODS,
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": list(self.scopes),
        }
        return {name: value for name, value in document.items() if name not in self.hidden}

    def token(
        self,
        subject: str = "ann",
        *,
        client_id: str = "flytekit",
        audience: str | Collection[str] = AUDIENCE,
        expires_in: float | None = None,
        claims: Mapping[str, Any] | None = None,
    ) -> str:
        """Return an access token, without any protocol.

        Args:
            subject: its claim `sub`.
            client_id: the client that it is for.
            audience: its claim `aud`.
            expires_in: seconds from now, also negative; None: as usual.
            claims: more claims, which replace others; one that is None is left out.
        """
        made = self.claims(subject, client_id, audience, expires_in) | dict(claims or {})
        return signed({name: value for name, value in made.items() if value is not None}, self.keys.signing)

    def claims(
        self,
        subject: str = "ann",
        client_id: str = "flytekit",
        audience: str | Collection[str] = AUDIENCE,
        expires_in: float | None = None,
        scope: str = "all",
    ) -> dict[str, Any]:
        """Return the claims of an access token; the arguments are those of `token`."""
        return access_claims(
            issuer=self.issuer,
            subject=subject,
            client_id=client_id,
            audience=audience,
            scope=scope,
            expires_in=self.expires_in if expires_in is None else expires_in,
        )

    def user_claims(self, user: str) -> dict[str, Any]:
        """Return what the provider knows of a user."""
        return {
            "sub": user,
            "name": user.title(),
            "preferred_username": user,
            "email": f"{user}@flyte.example",
            **self.users.get(user, {}),
        }

    def user_of(self, token: str) -> str | None:
        """Return the user of a valid access token, by the name with which the user logs in."""
        try:
            claims = claims_of(token)
        except (IndexError, ValueError):
            return None
        names = (name for name in [claims["sub"], *self.users] if self.user_claims(name)["sub"] == claims["sub"])
        return next(names, None) if claims["exp"] > time.time() else None

    def client_of_hint(self, id_token: str) -> str:
        """Return the client of an ID token, which may have expired; "" when there is none."""
        return claims_of(id_token)["azp"] if id_token.count(".") == 2 else ""

    def _make_tokens(self, request: FormRequest, user: str | None, scope: str, refreshable: bool) -> dict[str, Any]:
        """Return the response of the token endpoint."""
        client_id = request.client.client_id
        subject = self.user_claims(user)["sub"] if user else client_id
        audience = request.payload.data.get("audience") or AUDIENCE
        access_token = signed(self.claims(subject, client_id, audience, scope=scope), self.keys.signing)
        tokens = {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": int(self.expires_in),
            "scope": scope,
        }
        if user and refreshable:
            tokens["refresh_token"] = secrets.token_urlsafe(32)
        if user and "openid" in scope.split():
            tokens["id_token"] = self._id_token(request, user, access_token)
        return tokens

    def _id_token(self, request: FormRequest, user: str, access_token: str) -> str:
        code = request.authorization_code
        claims = id_claims(
            issuer=self.issuer,
            user=self.user_claims(user),
            client_id=request.client.client_id,
            nonce=code.nonce if code else None,
            access_token=access_token,
            expires_in=self.expires_in,
        )
        claims |= self.id_token_claims
        return signed({name: value for name, value in claims.items() if value is not None}, self.keys.signing)


@contextmanager
def running_provider(
    clients: Sequence[Client] | None = None, certificate: tuple[Path, Path] | None = None
) -> Iterator[Provider]:
    """Run a provider during the block.

    Args:
        clients: its clients; None: the usual ones.
        certificate: files of a certificate for `localhost` and its key, for TLS.
    """
    provider = Provider(usual_clients() if clients is None else clients, certificate)
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()
