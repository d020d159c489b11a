"""Values of login."""

from typing import Literal

from pydantic import Field

from deploy.chart.base import SecretKey, Values

_URL = r"^$|^https?://[!-~]+$"


class PublicClient(Values):
    """The public client at the OpenID provider as which flytekit and flytectl log people in."""

    id: str = "flytectl"
    """Its id."""

    redirect_uri: str = "http://localhost:53593/callback"
    """Where these programs receive the provider's response; registered with the client."""

    scopes: list[str] = ["openid", "profile"]
    """Scopes that they request."""

    audience: str = ""
    """Audience that they request, where the provider expects one."""

    header: Literal["authorization", "flyte-authorization"] = "flyte-authorization"
    """Header in which they send their token."""


class BrowserClient(Values):
    """The client at the OpenID provider as which browsers log in, by /login of the gateway.

    The provider must know `<publicUrl>/callback` as its redirect URI and `<publicUrl>/logout` as that after a logout.
    """

    id: str = ""
    """Its id, which `audiences` must have, too. Empty: browsers cannot log in."""

    existing_secret: SecretKey = SecretKey()
    """Key with its secret; empty: it is a public client."""

    scopes: list[str] = ["openid", "profile", "email", "offline_access"]
    """Scopes that browsers log in with: `openid`, and what makes the provider issue refresh tokens."""

    redirect_origins: list[str] = []
    """Origins to which a browser may be sent after a login or logout, in addition to that of `publicUrl`."""


class Auth(Values):
    """Login by an OpenID provider (docs/operating/authentication.md#1-ask-the-provider)."""

    issuer: str = Field(default="", pattern=_URL)
    """URL of the provider, exactly as the claim `iss` of its tokens has it. Empty: every caller may do everything."""

    audiences: list[str] = []
    """Values of the claim `aud`, of which a token must have one; needed with an issuer."""

    jwks_url: str = Field(default="", pattern=_URL)
    """Where the provider publishes its keys: `jwks_uri` of its discovery document; needed with an issuer."""

    ca_secret: SecretKey = SecretKey()
    """Key with the PEM certificates of the authority of the provider's certificate; empty: public authorities."""

    gateway_secret: SecretKey = SecretKey()
    """Key with 16 to 256 visible ASCII characters by which the services know the gateway; needed with an issuer. The
    gateway's and all services' pods must start again after a change."""

    subject_claims: list[str] = Field(default=["sub"], min_length=1)
    """Claims that name the subject, which is the principal of executions; the first that a token has counts."""

    client_claims: list[str] = Field(default=["azp", "client_id", "cid"], min_length=1)
    """Claims that name the client that a token was issued to; the first that a token has counts."""

    public_client: PublicClient = PublicClient()
    """The client of flytekit and flytectl."""

    browser_client: BrowserClient = BrowserClient()
    """The client of browsers."""
