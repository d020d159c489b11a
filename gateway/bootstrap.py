"""Envoy's whole configuration: one listener for HTTP/1.1 and HTTP/2, the clusters, and the admin interface."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StringConstraints, model_validator

from gateway import authentication, clusters, filters, limits, local_replies, routing, stats, tls
from gateway.authentication import Login, SecretError
from gateway.clusters import Address
from gateway.routes import Routes
from gateway.tls import Certificate

_OWNER_ONLY = 0o600

# Envoy counts how often a thread did not respond for this long. By default it looks ten times a second at each thread,
# which was most of what an idle gateway did.
_WATCHDOG = {"miss_timeout": "4s", "megamiss_timeout": "10s"}

# A name or an address, in small letters as browsers write it.
_HOST = r"([a-z0-9._-]+|\[[0-9a-f:.]+\])"


def _origin(text: str) -> str:
    """Return `text`; raise ValueError unless it is an origin as browsers write it."""
    if not re.fullmatch(rf"https?://{_HOST}(:\d+)?", text):
        raise ValueError(f"{text!r} is not http[s]://host[:port]")
    return text


def _host(text: str) -> str:
    """Return `text`; raise ValueError unless it is the name or the address of a host."""
    if not re.fullmatch(_HOST, text):
        raise ValueError(f"{text!r} is not the name of a host")
    return text


class Settings(BaseModel):
    """The settings of a gateway; the title of a field is its option of `python -m gateway render`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    listen: Address = Field(default=Address("127.0.0.1", 30080), title="--listen")
    """host:port for clients."""

    admin: Address = Field(default=Address("127.0.0.1", 9901), title="--admin")
    """host:port or unix:PATH of Envoy's admin interface, which can stop it: a socket is for its owner only."""

    stats: Address | None = Field(default=None, title="--stats")
    """host:port of Envoy's metrics (GET /stats/prometheus) and readiness (GET /ready); none: no such listener."""

    upstreams: Mapping[str, Sequence[Address]] = Field(default_factory=dict, title="--upstream")
    """OWNER=HOST:PORT[,HOST:PORT]: the HTTP/2 servers of one service; needed once for each of them."""

    reflection: Sequence[Address] = Field(default=(), title="--reflection")
    """HOST:PORT[,HOST:PORT] of grpcio servers for reflection and watched health; none: no such route."""

    objects: Sequence[Address] = Field(default=(), title="--objects")
    """HOST:PORT[,HOST:PORT] of HTTP servers of a file:// object store; none: no such route."""

    browser_login: Sequence[Address] = Field(default=(), title="--browser-login")
    """HOST:PORT[,HOST:PORT] of HTTP servers of projects, for /login, /callback and /logout; none: no such routes."""

    tls: Certificate | None = Field(default=None, title="--tls-chain, --tls-key")
    """PEM files: the certificate with its chain, and its private key. They turn TLS on."""

    cors_origins: Sequence[Annotated[str, AfterValidator(_origin)]] = Field(default=(), title="--cors-origin")
    """scheme://host[:port] of web pages that may call the gateway, in addition to its own; may be repeated."""

    hosts: Sequence[Annotated[str, AfterValidator(_host)]] = Field(default=(), title="--host")
    """Names by which REST clients and web pages reach the gateway; may be repeated. None: by any."""

    trusted_proxies: int = Field(default=0, ge=0, le=16, title="--trusted-proxies")
    """Proxies in front of the gateway that append the address of their client to x-forwarded-for, such as an ingress:
    the audit log has the address that the first of them saw (docs/operating/audit.md#addresses)."""

    gateway_secret_file: Path | None = Field(default=None, title="--gateway-secret-file")
    """File with the services' setting `gateway_secret`, by which they know the gateway; needed for login."""

    auth_issuer: str = Field(default="", title="--auth-issuer", pattern=r"^(https?://[!-~]+)?$")
    """URL of the OpenID provider, exactly as the claim `iss` of its tokens has it. It turns login on: everything but
    how to log in needs a valid token (docs/operating/authentication.md#3-switch-it-on)."""

    auth_audiences: Sequence[Annotated[str, StringConstraints(min_length=1)]] = Field(
        default=(), title="--auth-audience"
    )
    """Values of the claim `aud`, of which a token must have one; may be repeated. Tokens that the provider issues for
    other applications are refused by it, so login needs at least one."""

    auth_jwks_url: str = Field(default="", title="--auth-jwks-url", pattern=r"^(https?://[!-~]+)?$")
    """Where the provider publishes its keys: `jwks_uri` of its discovery document."""

    auth_jwks_file: Path | None = Field(default=None, title="--auth-jwks-file")
    """The keys as a file, a JSON Web Key Set, in place of a URL; read at the start."""

    auth_ca_file: Path | None = Field(default=None, title="--auth-ca-file")
    """PEM certificates of the authorities of the provider's certificate; none: the system's."""

    engine_key_file: Path | None = Field(default=None, title="--engine-key-file")
    """File with the key of tokens that an engine signs itself, as that of the sandbox does: HS256, for the subject
    `engine`, the issuer `flyteplane-engine` and the audience `flyteplane`."""

    max_message_bytes: int = Field(default=4 * limits.MIB, ge=1024, title="--max-message-bytes")
    """Size limit of a request to a service; the same as the services' setting."""

    access_log: StrictBool = Field(default=False, title="--access-log")
    """Write a JSON line a request to standard output."""

    @model_validator(mode="after")
    def _whole_login(self) -> Self:
        given = [self.auth_audiences, self.auth_jwks_url, self.auth_jwks_file, self.auth_ca_file, self.engine_key_file]
        if not self.auth_issuer:
            if any(given):
                raise ValueError("settings of login need auth_issuer")
            return self
        if not self.auth_audiences:
            raise ValueError("auth_audiences is needed: without it tokens for any application would be accepted")
        if bool(self.auth_jwks_url) == bool(self.auth_jwks_file):
            raise ValueError("auth_jwks_url or auth_jwks_file is needed, and not both")
        return self

    @property
    def login(self) -> Login | None:
        """How callers are authenticated; none: they are not. Raises SecretError."""
        if not self.auth_issuer:
            return None
        return Login(
            self.auth_issuer,
            self.auth_audiences,
            self.auth_jwks_url,
            self.auth_jwks_file,
            self.auth_ca_file,
            authentication.read_secret(self.engine_key_file) if self.engine_key_file else "",
        )

    @property
    def secret(self) -> str:
        """The secret that services know the gateway by, "" for none; raises SecretError."""
        if self.gateway_secret_file is not None:
            return authentication.read_secret(self.gateway_secret_file)
        if self.auth_issuer:
            raise SecretError("gateway_secret_file is needed for login: services must know that the gateway calls")
        return ""


def bootstrap(routes: Routes, out: Path, settings: Settings) -> dict[str, Any]:
    """Return Envoy's configuration; raise SecretError.

    Args:
        routes: The routing table.
        out: The folder of the descriptor sets and scripts that the configuration names.
        settings: The settings of this gateway.
    """
    services = [clusters.grpc_cluster(owner, settings.upstreams[owner]) for owner in routes.owners]
    reflection = [clusters.grpc_cluster(routing.REFLECTION, settings.reflection)] if settings.reflection else []
    objects = [clusters.http_cluster(routing.OBJECTS, settings.objects)] if settings.objects else []
    logins = [clusters.http_cluster(routing.BROWSER_LOGIN, settings.browser_login)] if settings.browser_login else []
    provider = [authentication.cluster(settings.login)] if settings.login and settings.login.jwks_url else []
    return {
        "node": {"id": "flyteplane-gateway", "cluster": "flyteplane"},
        # A client of it can stop the gateway, so a socket is for its owner only.
        "admin": {"address": settings.admin.as_envoy(mode=_OWNER_ONLY)},
        "static_resources": {
            "listeners": [
                _listener(settings, out, _connection_manager(routes, out, settings)),
                *([stats.listener(settings.stats)] if settings.stats else []),
            ],
            "clusters": [
                *services,
                *reflection,
                *objects,
                *logins,
                *provider,
                *([stats.cluster(settings.admin)] if settings.stats else []),
            ],
        },
        "overload_manager": limits.overload_manager(),
        "watchdogs": {"main_thread_watchdog": _WATCHDOG, "worker_watchdog": _WATCHDOG},
    }


def _listener(settings: Settings, out: Path, connection_manager: dict[str, Any]) -> dict[str, Any]:
    manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": connection_manager}
    secured = (
        {"transport_socket": tls.transport_socket(out), "transport_socket_connect_timeout": limits.HANDSHAKE_TIMEOUT}
        if settings.tls
        else {}
    )
    return {
        "name": "front",
        "address": settings.listen.as_envoy(),
        # With it two gateways could listen on the same port without an error, and each would get some of the requests.
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": limits.CONNECTION_BUFFER,
        "filter_chains": [{"filters": [manager], **secured}],
    }


def _connection_manager(routes: Routes, out: Path, settings: Settings) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/"
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "codec_type": "AUTO",
        "use_remote_address": True,  # clients cannot set Envoy's internal headers
        "xff_num_trusted_hops": settings.trusted_proxies,
        # A slash in a name stays escaped until the transcoder has split the path; flyteadmin would split there and
        # return 404. As in flyteadmin //, . and .. are cleaned (gateway.md#rest-paths).
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "normalize_path": True,
        "merge_slashes": True,
        "http_protocol_options": {"accept_http_10": True},
        "early_header_mutation_extensions": authentication.header_removal(),
        "generate_request_id": settings.access_log,  # nothing else reads it
        **limits.of_connections(),
        "local_reply_config": local_replies.config(login=settings.login is not None),
        "access_log": [_access_log()] if settings.access_log else [],
        "http_filters": filters.chain(out, settings.max_message_bytes, settings.login, routes.objects_prefix),
        "route_config": routing.route_table(
            routes,
            out,
            reflection=bool(settings.reflection),
            objects=bool(settings.objects),
            browser_login=bool(settings.browser_login),
            origins=settings.cors_origins,
            largest_message=settings.max_message_bytes,
            secret=settings.secret,
            issuer=settings.auth_issuer,
        ),
    }


def _access_log() -> dict[str, Any]:
    line = {
        "time": "%START_TIME%",
        "verb": "%REQ(X-ENVOY-ORIGINAL-METHOD?:METHOD)%",
        "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
        "status": "%RESPONSE_CODE%",
        "grpc_status": "%GRPC_STATUS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "milliseconds": "%DURATION%",
        "bytes_in": "%BYTES_RECEIVED%",
        "bytes_out": "%BYTES_SENT%",
        "service": "%UPSTREAM_CLUSTER%",
        "server": "%UPSTREAM_HOST%",
        "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "user_agent": "%REQ(USER-AGENT)%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "traceparent": "%REQ(TRACEPARENT)%",
    }
    return {
        "name": "envoy.access_loggers.stdout",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
            "log_format": {"json_format": line},
        },
    }
