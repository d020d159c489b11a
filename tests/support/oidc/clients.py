"""The clients that are registered at the provider."""

from collections.abc import Collection
from dataclasses import dataclass
from hmac import compare_digest

from authlib.oauth2.rfc6749 import ClientMixin

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass
class Client(ClientMixin):  # type: ignore[misc]  # authlib has no annotations
    """A client.

    Attributes:
        client_id: its id.
        secret: its secret; empty for a public client.
        redirect_uris: where the provider sends browsers back to, each exactly as it is.
        post_logout_uris: the same after a logout.
        grants: the grant types that it may use.
    """

    client_id: str
    secret: str = ""
    redirect_uris: Collection[str] = ()
    post_logout_uris: Collection[str] = ()
    grants: Collection[str] = ("authorization_code", "refresh_token")

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> None:
        return None

    def get_allowed_scope(self, scope: str | None) -> str:
        return scope or ""

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        return bool(self.secret) and compare_digest(self.secret, client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:  # noqa: ARG002 - authlib's own hook
        """Return whether the method fits: a confidential client never passes without its secret."""
        return (method != "none") == bool(self.secret)

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in self.grants


def usual_clients() -> list[Client]:
    """Return the clients of most tests: flytekit's public one, a service with a secret, and that of browsers."""
    return [
        Client(
            "flytekit",
            redirect_uris=["http://localhost:53593/callback"],
            grants=("authorization_code", "refresh_token", DEVICE_CODE),
        ),
        Client("propeller", secret="propeller-secret", grants=("client_credentials",)),
        Client("console", secret="console-secret"),
    ]
