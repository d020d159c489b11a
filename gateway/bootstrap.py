"""Envoy's whole configuration: one listener for HTTP/1.1 and HTTP/2, the clusters, and the admin interface."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool

from gateway import clusters, filters, limits, routing, stats, tls
from gateway.clusters import Address
from gateway.routes import Routes
from gateway.tls import Certificate

_OWNER_ONLY = 0o600

# google.rpc.Code for replies that Envoy makes itself (gateway.md#status-codes-of-local-replies); the same is in
# lua/outer.lua.
CODES = {
    400: 3,
    401: 16,
    403: 7,
    404: 5,
    408: 4,
    413: 8,
    415: 3,
    429: 8,
    431: 8,
    500: 13,
    501: 12,
    502: 14,
    503: 14,
    504: 4,
}
# The same for gRPC clients. Envoy's own choice would be UNKNOWN, which flytekit takes for "log in", or INTERNAL for a
# fault of the client. A time-out in mid request becomes UNAVAILABLE.
GRPC_CODES = {400: 3, 405: 12, 408: 14, 413: 8, 431: 8, 500: 13}

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

    tls: Certificate | None = Field(default=None, title="--tls-chain, --tls-key")
    """PEM files: the certificate with its chain, and its private key. They turn TLS on."""

    cors_origins: Sequence[Annotated[str, AfterValidator(_origin)]] = Field(default=(), title="--cors-origin")
    """scheme://host[:port] of web pages that may call the gateway, in addition to its own; may be repeated."""

    hosts: Sequence[Annotated[str, AfterValidator(_host)]] = Field(default=(), title="--host")
    """Names by which REST clients and web pages reach the gateway; may be repeated. None: by any."""

    max_message_bytes: int = Field(default=4 * limits.MIB, ge=1024, title="--max-message-bytes")
    """Size limit of a request to a service; the same as the services' setting."""

    access_log: StrictBool = Field(default=False, title="--access-log")
    """Write a JSON line a request to standard output."""


def bootstrap(routes: Routes, out: Path, settings: Settings) -> dict[str, Any]:
    """Return Envoy's configuration.

    Args:
        routes: The routing table.
        out: The folder of the descriptor sets and scripts that the configuration names.
        settings: The settings of this gateway.
    """
    services = [clusters.grpc_cluster(owner, settings.upstreams[owner]) for owner in routes.owners]
    reflection = [clusters.grpc_cluster(routing.REFLECTION, settings.reflection)] if settings.reflection else []
    objects = [clusters.http_cluster(routing.OBJECTS, settings.objects)] if settings.objects else []
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
        # A slash in a name stays escaped until the transcoder has split the path; flyteadmin would split there and
        # return 404. As in flyteadmin //, . and .. are cleaned (gateway.md#rest-paths).
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "normalize_path": True,
        "merge_slashes": True,
        "http_protocol_options": {"accept_http_10": True},
        "generate_request_id": settings.access_log,  # nothing else reads it
        **limits.of_connections(),
        "local_reply_config": {
            "mappers": [*_grpc_mappers(), _unwritable_mapper(), *_textless_mappers(), *_rest_mappers()]
        },
        "access_log": [_access_log()] if settings.access_log else [],
        "http_filters": filters.chain(out, settings.max_message_bytes),
        "route_config": routing.route_table(
            routes,
            out,
            reflection=bool(settings.reflection),
            objects=bool(settings.objects),
            origins=settings.cors_origins,
            largest_message=settings.max_message_bytes,
        ),
    }


def _unwritable_mapper() -> dict[str, Any]:
    """Return the mapper to INTERNAL of the transcoder's 502 for a reply that it cannot write as JSON.

    Services check their replies first, with a message that names the value (services/kit/rpc/json_replies.py).
    """
    replied = {"filter": filters.REST_SPACE, "path": [{"key": "replied"}], "value": {"string_match": {"exact": "yes"}}}
    metadata = {"metadata_filter": {"matcher": replied, "match_if_key_not_found": False}}
    return {
        "filter": {"and_filter": {"filters": [_status_is(502), _is_rest(rest=True), metadata]}},
        "status_code": 500,
        "body_format_override": {
            "json_format": {
                "code": CODES[500],
                "message": "the reply cannot be shown: %LOCAL_REPLY_BODY%",
                "details": [],
            },
            "content_type": "application/json",
        },
    }


def _textless_mappers() -> list[dict[str, Any]]:
    """Return the mappers of requests that Envoy refuses without a text, before any filter."""
    return [
        _rest_mapper(400, "the path cannot be read", _header_is(":path", contains="%00")),
        _rest_mapper(403, "connections cannot be upgraded", _header_is("connection", contains="upgrade")),
    ]


def _rest_mappers() -> list[dict[str, Any]]:
    return [_rest_mapper(status, "%LOCAL_REPLY_BODY%") for status in CODES]


def _rest_mapper(status: int, message: str, *conditions: dict[str, Any]) -> dict[str, Any]:
    return {
        "filter": {"and_filter": {"filters": [_status_is(status), _is_rest(rest=True), *conditions]}},
        "body_format_override": {
            "json_format": {"code": CODES[status], "message": message, "details": []},
            "content_type": "application/json",
        },
    }


def _grpc_mappers() -> list[dict[str, Any]]:
    return [
        {
            "filter": {"and_filter": {"filters": [_status_is(status), _is_rest(rest=False)]}},
            "headers_to_add": [
                {
                    "header": {"key": "grpc-status", "value": str(code)},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                },
            ],
        }
        for status, code in GRPC_CODES.items()
    ]


def _status_is(status: int) -> dict[str, Any]:
    value = {"default_value": status, "runtime_key": f"flyteplane.local_reply.{status}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _header_is(name: str, contains: str) -> dict[str, Any]:
    text = {"contains": contains, "ignore_case": True}
    return {"header_filter": {"header": {"name": name, "string_match": text}}}


def _is_rest(*, rest: bool) -> dict[str, Any]:
    """Return a filter that matches REST requests, also transcoded ones, which look like gRPC by then; or the others."""
    looks_grpc = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
    plain = {"header_filter": {"header": looks_grpc | {"invert_match": True, "treat_missing_header_as_empty": True}}}
    transcoded = {"header_filter": {"header": {"name": "x-envoy-original-path", "present_match": True}}}
    if rest:
        return {"or_filter": {"filters": [plain, transcoded]}}
    native = {"header_filter": {"header": looks_grpc}}
    return {"and_filter": {"filters": [native, _without("x-envoy-original-path")]}}


def _without(header: str) -> dict[str, Any]:
    return {"header_filter": {"header": {"name": header, "present_match": False}}}


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
