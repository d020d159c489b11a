"""Envoy's HTTP filters, and which of them see which request.

A gRPC request passes only CORS, gRPC-Web, login if it is on, and the router. One from a web page first passes a script
that refuses pages of other origins, as REST requests, uploads and downloads do. The transcoder and the two scripts
around it are disabled by default; the routes for REST enable them. Envoy decides that once, when the request arrives,
so a transcoded request keeps them although it then takes the route of its method.
"""

from pathlib import Path
from typing import Any

from gateway import authentication, limits
from gateway.authentication import Login
from gateway.descriptors import SERVICES, Form

CORS = "envoy.filters.http.cors"
ORIGIN = "flyteplane.origin"
GRPC_WEB = "envoy.filters.http.grpc_web"
OUTER = "flyteplane.outer"
TRANSCODER = "envoy.filters.http.grpc_json_transcoder"
INNER = "flyteplane.inner"
ROUTER = "envoy.filters.http.router"

# Metadata that the scripts set on a request: `route` chooses the transcoder's flavour, `reply` marks it as REST,
# `page` as a gRPC call of a web page that may make it.
REST_SPACE = "flyteplane.rest"

# The transcoder reads a JSON body in one go, and Envoy serves no other client meanwhile: up to 0.1 s for a MiB of
# small parts.
LARGEST_JSON = 4 * limits.MIB
# JSON bodies above this size share LARGEST_JSON bytes a second, so that many at a time take no longer than one.
LARGE_JSON = 64 * limits.KIB
# A reply is held in memory as a whole while it is transcoded. This bounds Envoy's memory only: lists have limits.
LARGEST_REPLY = 64 * 1024 * 1024

_ON = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}
EXTENSIONS = "type.googleapis.com/envoy.extensions.filters.http"


def chain(out: Path, largest_message: int, login: Login | None, objects_prefix: str) -> list[dict[str, Any]]:
    """Return the filters in order; their files are in `out`.

    Calls are not counted here: services count them, by method and code, for a fraction of what it costs Envoy.
    """
    return [
        _filter(CORS, "cors.v3.Cors"),
        _script(ORIGIN, out / "origin.lua"),
        _filter(GRPC_WEB, "grpc_web.v3.GrpcWeb"),
        # Before anything that reads a body. After gRPC-Web, which gives its clients refusals in their form.
        *([authentication.http_filter(login, objects_prefix)] if login else []),
        _script(OUTER, out / "outer.lua"),
        {"name": TRANSCODER, "typed_config": transcoder(out, Form.JSON, Form.JSON, largest_message), "disabled": True},
        _script(INNER, out / "inner.lua"),
        # Without Envoy's headers about timing: no client reads them, and every reply would carry them.
        _filter(ROUTER, "router.v3.Router", suppress_envoy_headers=True),
    ]


def largest_body(body: Form, largest_message: int) -> int:
    """Return the largest size of a REST request's body, in bytes, for services that accept `largest_message` bytes."""
    return min(largest_message, LARGEST_JSON) if body is Form.JSON else largest_message


def transcoder(
    out: Path, body: Form, reply: Form, largest_message: int, *, snake_names: bool = False
) -> dict[str, Any]:
    """Return the transcoder's configuration for these forms of a request's body and of its reply."""
    return {
        "@type": f"{EXTENSIONS}.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        "proto_descriptor": str(out / descriptor_file(body, reply)),
        "services": list(SERVICES),
        "print_options": {"always_print_primitive_fields": True, "preserve_proto_field_names": snake_names},
        "convert_grpc_status": True,
        "ignore_unknown_query_parameters": True,
        "query_param_unescape_plus": True,
        "request_validation_options": {"reject_unknown_method": True},
        "max_request_body_size": largest_body(body, largest_message),
        "max_response_body_size": LARGEST_REPLY,
    }


def descriptor_file(body: Form, reply: Form) -> str:
    """Return the name of the file with the descriptor set for these forms."""
    return f"{body}_{reply}.pb"


def rest_switched_on(flavour: dict[str, Any]) -> dict[str, Any]:
    """Return the filter settings of a REST route; `flavour` is its transcoder."""
    return {ORIGIN: _ON, OUTER: _ON, TRANSCODER: flavour, INNER: _ON}


def pages_switched_on() -> dict[str, Any]:
    """Return the filter settings of a route other than REST that web pages may take."""
    return {ORIGIN: _ON}


def _filter(name: str, kind: str, **settings: object) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{EXTENSIONS}.{kind}", **settings}}


def _script(name: str, file: Path) -> dict[str, Any]:
    config = {"@type": f"{EXTENSIONS}.lua.v3.Lua", "default_source_code": {"filename": str(file)}}
    return {"name": name, "typed_config": config, "disabled": True}
