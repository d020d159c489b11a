"""Settings of the projects service."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    DirectoryPath,
    Field,
    FilePath,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode

from services.contracts.clusters import NamespaceSettings
from services.kit.process.settings import PublicSettings
from services.kit.process.version import running_version

NonEmpty = Annotated[str, StringConstraints(min_length=1)]

# As browsers write it.
_ORIGIN = r"^https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]+)?$"

RESERVED_TEMPLATE_KEYS = frozenset({"namespace", "project", "domain"})
"""Keys of the project-domain itself in templates of cluster resources."""


class ConfiguredDomain(BaseModel):
    """A domain that every project has, written `id` or `id=name`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: NonEmpty
    name: NonEmpty

    def __str__(self) -> str:
        return self.id if self.id == self.name else f"{self.id}={self.name}"

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        identifier, _, name = value.partition("=")
        return {"id": identifier, "name": name or identifier}


class TemplateValue(BaseModel):
    """A value of placeholders in templates: a text, or where it is read from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: str = Field(default="", repr=False)
    env: str | None = None
    """A variable of the environment."""
    file: FilePath | None = None
    """A file, without a line end at its end; it is read in every round."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"value": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("a value is a text, or has one of env and file")
        return self


class Settings(NamespaceSettings, PublicSettings):
    """Settings of the projects service beyond those of every service; in the environment commas separate lists."""

    domains: Annotated[tuple[ConfiguredDomain, ...], NoDecode] = Field(
        default=tuple(ConfiguredDomain(id=name, name=name) for name in ("development", "staging", "production")),
        min_length=1,
    )
    """The domains of every project, in the order in which clients show them: `id` or `id=name` each. What was created
    in a domain that is removed stays readable; nothing new can be created there."""

    seed_projects: Annotated[tuple[NonEmpty, ...], NoDecode] = ("flytesnacks",)
    """Ids of projects that are registered at start if they are absent. An existing one is left as it is, archived
    too."""

    version: str = Field(default_factory=lambda: running_version().version)
    """Version in the response of GetVersion, with a `v` before a number; the console shows it."""

    build: str = Field(default_factory=lambda: running_version().commit)
    """Build in the response of GetVersion: the commit that an image was built from; by default that of the checkout."""

    build_time: str = Field(default_factory=lambda: running_version().time)
    """BuildTime in the response of GetVersion, by default the time of the checkout's commit; when empty, the time at
    which the process started."""

    cluster_resource_templates: DirectoryPath | None = None
    """Folder of templates, `*.yaml`, of the Kubernetes objects that each project has in each domain, such as its
    namespace and its quota (docs/operating/cluster-resources.md#1-write-templates). None: the service makes no objects,
    and `clusters` and `namespace_template` have no effect on it."""

    cluster_resource_values: dict[str, TemplateValue] = Field(default_factory=dict)
    """Values of the placeholders in templates, by key; a JSON object in the environment. A value is a text, or a table
    with one key: env, the name of a variable, or file, the path of a file."""

    cluster_resource_domain_values: dict[str, dict[str, TemplateValue]] = Field(default_factory=dict)
    """Values by the id of a domain, then by key; they replace those of cluster_resource_values. A JSON object in the
    environment."""

    cluster_resource_refresh_seconds: float = Field(default=60.0, ge=1)
    """Pause between two rounds that apply the templates of all projects with new values or text. Those of a project
    that is registered or changed are applied at once."""

    cluster_resource_reapply_seconds: float = Field(default=3600.0, ge=1)
    """Time after which objects are applied again although neither template nor values are new, because others may have
    changed or deleted them."""

    auth_issuer: str = Field(default="", pattern=r"^(https?://[!-~]+)?$")
    """URL of the OpenID provider, exactly as the claim `iss` of its tokens has it; the same as the gateway's. With it
    the service serves AuthMetadataService and IdentityService, and `gateway_secret` is needed
    (docs/operating/authentication.md#3-switch-it-on)."""

    auth_ca_file: FilePath | None = None
    """PEM certificates of the authorities of the provider's certificate; none: the usual ones."""

    auth_client_id: NonEmpty = "flytectl"
    """Public client, registered with the provider, as which flytekit and flytectl log people in; they may be configured
    with another one."""

    auth_client_redirect_uri: NonEmpty = "http://localhost:53593/callback"
    """Where these programs receive the provider's response; the client must be registered with it."""

    auth_client_scopes: Annotated[tuple[NonEmpty, ...], NoDecode] = ("openid", "profile")
    """Scopes that they request."""

    auth_client_audience: str = ""
    """Audience that they request, where the provider expects one, as Auth0 does."""

    auth_client_header: Literal["authorization", "flyte-authorization"] = "flyte-authorization"
    """Header in which they send their token. The gateway reads both; a proxy in front may need `authorization`."""

    login_client_id: str = ""
    """OAuth client of browsers at the provider, for /login, /callback and /logout; `auth_audiences` of the gateway must
    have it, too. Empty: browsers cannot log in."""

    login_client_secret: str = Field(default="", repr=False)
    """Secret of that client; empty for a public client."""

    login_scopes: Annotated[tuple[NonEmpty, ...], NoDecode] = ("openid", "profile", "email", "offline_access")
    """Scopes that browsers log in with: openid, and offline_access for a refresh token, by which a session goes on
    without the user. That one is left out where the provider lists its scopes and has none such."""

    login_redirect_origins: Annotated[tuple[Annotated[str, StringConstraints(pattern=_ORIGIN)], ...], NoDecode] = ()
    """Origins to which a browser may be sent after a login or logout, in addition to that of public_url: such as
    https://console.example.com of a console on another host."""

    @field_validator(
        "domains", "seed_projects", "auth_client_scopes", "login_scopes", "login_redirect_origins", mode="before"
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value

    @field_validator("domains")
    @classmethod
    def _distinct_domains(cls, value: tuple[ConfiguredDomain, ...]) -> tuple[ConfiguredDomain, ...]:
        if len({domain.id for domain in value}) < len(value):
            raise ValueError("each domain may stand here once")
        return value

    @field_validator("cluster_resource_values")
    @classmethod
    def _not_reserved(cls, value: dict[str, TemplateValue]) -> dict[str, TemplateValue]:
        _check_keys(value)
        return value

    @field_validator("cluster_resource_domain_values")
    @classmethod
    def _not_reserved_in_domains(
        cls, value: dict[str, dict[str, TemplateValue]]
    ) -> dict[str, dict[str, TemplateValue]]:
        for of_domain in value.values():
            _check_keys(of_domain)
        return value

    @model_validator(mode="after")
    def _login_behind_the_gateway(self) -> Self:
        if self.auth_issuer and not self.gateway_secret:
            raise ValueError("gateway_secret is needed for login: anyone could claim to be anyone otherwise")
        return self

    @model_validator(mode="after")
    def _whole_login(self) -> Self:
        if self.login_client_id and not self.auth_issuer:
            raise ValueError("login_client_id needs auth_issuer")
        if self.login_client_secret and not self.login_client_id:
            raise ValueError("login_client_secret needs login_client_id")
        if "openid" not in self.login_scopes:
            raise ValueError("login_scopes must have openid: without it there is no ID token")
        return self

    @model_validator(mode="after")
    def _values_of_known_domains(self) -> Self:
        if unknown := self.cluster_resource_domain_values.keys() - {domain.id for domain in self.domains}:
            raise ValueError(f"cluster_resource_domain_values has unknown domains: {', '.join(sorted(unknown))}")
        return self


def _check_keys(keys: Iterable[str]) -> None:
    if reserved := RESERVED_TEMPLATE_KEYS.intersection(keys):
        raise ValueError(f"{', '.join(sorted(reserved))}: these values are those of the project-domain")
