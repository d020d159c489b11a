"""authlib's authorization server and grants, over dictionaries in memory."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    OAuth2Payload,
    OAuth2Request,
    TokenMixin,
    grants,
)
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc8628 import DeviceAuthorizationEndpoint, DeviceCodeGrant
from starlette.responses import JSONResponse, RedirectResponse, Response

from tests.support.oidc.clients import Client

AUTHENTICATION_METHODS = ["client_secret_basic", "client_secret_post", "none"]
CODE_SECONDS = 60


@dataclass(frozen=True)
class Code:
    """What an authorization code stands for."""

    code: str
    client_id: str
    redirect_uri: str
    scope: str
    user: str
    nonce: str | None
    code_challenge: str | None
    code_challenge_method: str | None
    expires_at: float

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope


@dataclass
class DeviceCode:
    """What a device code stands for; `user` is set when a user has approved it."""

    device_code: str
    user_code: str
    client_id: str
    scope: str
    expires_at: float
    user: str | None = None

    def get_client_id(self) -> str:
        return self.client_id

    def get_scope(self) -> str:
        return self.scope

    def get_user_code(self) -> str:
        return self.user_code

    def is_expired(self) -> bool:
        return time.time() > self.expires_at


@dataclass
class RefreshToken(TokenMixin):  # type: ignore[misc]  # authlib has no annotations
    """A refresh token; each is good for one use."""

    token: str
    client_id: str
    scope: str
    user: str

    def check_client(self, client: Client) -> bool:
        return self.client_id == client.client_id

    def get_scope(self) -> str:
        return self.scope


@dataclass
class Issued:
    """All that the provider has issued and that is still good."""

    codes: dict[str, Code] = field(default_factory=dict)
    device_codes: dict[str, DeviceCode] = field(default_factory=dict)
    refresh_tokens: dict[str, RefreshToken] = field(default_factory=dict)

    def device_code_of(self, user_code: str) -> DeviceCode | None:
        """Return the device code that belongs to a user code."""
        return next((each for each in self.device_codes.values() if each.user_code == user_code), None)


class FormRequest(OAuth2Request, OAuth2Payload):  # type: ignore[misc]  # authlib has no annotations
    """A request as authlib reads it: its parameters are those of the query or of the form."""

    def __init__(self, method: str, uri: str, headers: Mapping[str, str], pairs: Sequence[tuple[str, str]]) -> None:
        super().__init__(method, uri, headers=headers)
        self.payload = _Pairs(pairs)

    @property
    def args(self) -> dict[str, str]:
        return self.payload.data

    @property
    def form(self) -> dict[str, str]:
        return self.payload.data


class _Pairs(OAuth2Payload):  # type: ignore[misc]  # same
    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._pairs = pairs

    @property
    def data(self) -> dict[str, str]:
        return dict(self._pairs)

    @property
    def datalist(self) -> defaultdict[str, list[str]]:
        lists = defaultdict(list)
        for name, value in self._pairs:
            lists[name].append(value)
        return lists


MakeTokens = Callable[[FormRequest, str | None, str, bool], dict[str, Any]]


class Server(AuthorizationServer):  # type: ignore[misc]  # same
    """authlib's server, with starlette's responses.

    Args:
        clients: those that are registered.
        issued: what the server has issued.
        make_tokens: makes what a grant gives: of a request, the user (None: the client itself), the scope, and whether
            there is a refresh token.
    """

    def __init__(self, clients: Mapping[str, Client], issued: Issued, make_tokens: MakeTokens) -> None:
        super().__init__()
        self._clients = clients
        self.issued = issued
        self.make_tokens = make_tokens

    def query_client(self, client_id: str) -> Client | None:
        return self._clients.get(client_id)

    def save_token(self, token: Mapping[str, Any], request: FormRequest) -> None:
        """Keep the refresh token; others are valid by their signature."""
        if secret := token.get("refresh_token"):
            kept = RefreshToken(secret, request.client.client_id, token["scope"], request.user)
            self.issued.refresh_tokens[secret] = kept

    def create_oauth2_request(self, request: FormRequest) -> FormRequest:
        return request

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Send nothing: there are no listeners."""

    def handle_response(self, status: int, body: Any, headers: Sequence[tuple[str, str]]) -> Response:
        named = dict(headers)
        if "Location" in named:
            return RedirectResponse(named["Location"], 302)
        return JSONResponse(body or {}, status, named)


class _GivesTokens:
    """A grant that gives the server's own tokens."""

    def generate_token(
        self,
        user: str | None = None,
        scope: str | None = None,
        grant_type: str | None = None,  # noqa: ARG002 - authlib's own hook
        expires_in: int | None = None,  # noqa: ARG002 - same
        include_refresh_token: bool = True,
    ) -> dict[str, Any]:
        server: Server = self.server  # type: ignore[attr-defined]  # the grant's
        request: FormRequest = self.request  # type: ignore[attr-defined]  # same
        return server.make_tokens(request, user, scope or "", include_refresh_token)


class CodeGrant(_GivesTokens, grants.AuthorizationCodeGrant):  # type: ignore[misc]  # same
    """An authorization code for an ID token, an access token and a refresh token."""

    TOKEN_ENDPOINT_AUTH_METHODS = AUTHENTICATION_METHODS

    def save_authorization_code(self, code: str, request: FormRequest) -> None:
        data = request.payload.data
        self.server.issued.codes[code] = Code(
            code,
            request.client.client_id,
            data["redirect_uri"],
            data.get("scope", ""),
            request.user,
            data.get("nonce"),
            data.get("code_challenge"),
            data.get("code_challenge_method"),
            time.time() + CODE_SECONDS,
        )

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        """Take the code: whatever follows, it is good for one try."""
        found = self.server.issued.codes.pop(code, None)
        return found if found and found.client_id == client.client_id and found.expires_at > time.time() else None

    def delete_authorization_code(self, authorization_code: Code) -> None:
        """Do nothing: it was taken."""

    def authenticate_user(self, authorization_code: Code) -> str:
        return authorization_code.user


class RefreshGrant(_GivesTokens, grants.RefreshTokenGrant):  # type: ignore[misc]  # same
    """A refresh token for new tokens, itself included."""

    TOKEN_ENDPOINT_AUTH_METHODS = AUTHENTICATION_METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> RefreshToken | None:
        found: RefreshToken | None = self.server.issued.refresh_tokens.get(refresh_token)
        return found

    def authenticate_user(self, refresh_token: RefreshToken) -> str:
        return refresh_token.user

    def revoke_old_credential(self, refresh_token: RefreshToken) -> None:
        self.server.issued.refresh_tokens.pop(refresh_token.token, None)


class ClientCredentials(_GivesTokens, grants.ClientCredentialsGrant):  # type: ignore[misc]  # same
    """A client's own secret for an access token."""

    TOKEN_ENDPOINT_AUTH_METHODS = AUTHENTICATION_METHODS[:2]


class DeviceGrant(_GivesTokens, DeviceCodeGrant):  # type: ignore[misc]  # same
    """A device code that a user has approved, for tokens."""

    def query_device_credential(self, device_code: str) -> DeviceCode | None:
        found: DeviceCode | None = self.server.issued.device_codes.get(device_code)
        return found

    def create_token_response(self) -> tuple[int, dict[str, Any], list[tuple[str, str]]]:
        """Give the tokens, once."""
        response: tuple[int, dict[str, Any], list[tuple[str, str]]] = super().create_token_response()
        del self.server.issued.device_codes[self.request.credential.device_code]
        return response

    def query_user_grant(self, user_code: str) -> tuple[str, bool] | None:
        found = self.server.issued.device_code_of(user_code)
        return (found.user, True) if found and found.user else None

    def should_slow_down(self, credential: DeviceCode) -> bool:  # noqa: ARG002 - authlib's own hook
        return False


class DeviceEndpoint(DeviceAuthorizationEndpoint):  # type: ignore[misc]  # same
    """Where a device asks for a code."""

    INTERVAL = 1
    verification_uri = ""

    def get_verification_uri(self) -> str:
        return self.verification_uri

    def save_device_credential(self, client_id: str, scope: str | None, data: Mapping[str, Any]) -> None:
        code, expires_at = data["device_code"], time.time() + data["expires_in"]
        kept = DeviceCode(code, data["user_code"], client_id, scope or "", expires_at)
        self.server.issued.device_codes[code] = kept


class Revocation(RevocationEndpoint):  # type: ignore[misc]  # same
    """Where a client gives a refresh token back."""

    CLIENT_AUTH_METHODS = AUTHENTICATION_METHODS

    def query_token(self, token_string: str, token_type_hint: str | None) -> RefreshToken | None:  # noqa: ARG002 - same
        found: RefreshToken | None = self.server.issued.refresh_tokens.get(token_string)
        return found

    def revoke_token(self, token: RefreshToken, request: FormRequest) -> None:  # noqa: ARG002 - same
        self.server.issued.refresh_tokens.pop(token.token, None)


def authorization_server(
    clients: Mapping[str, Client], issued: Issued, make_tokens: MakeTokens, verification_uri: str
) -> Server:
    """Return the server with its grants and endpoints; its arguments are those of `Server`."""
    server = Server(clients, issued, make_tokens)
    server.register_grant(CodeGrant, [CodeChallenge(required=True)])
    for grant in (RefreshGrant, ClientCredentials, DeviceGrant):
        server.register_grant(grant)
    device = DeviceEndpoint(server)
    device.verification_uri = verification_uri
    server.register_endpoint(device)
    server.register_endpoint(Revocation)
    return server
