"""Envoy's route table, made from the routing table: gRPC by method, then health and objects, then REST by form."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway import filters, limits
from gateway.authentication import DISCOVERY, GATEWAY_HEADER, TOKEN_HEADERS
from gateway.descriptors import Form
from gateway.routes import Method, Retry, Routes

REFLECTION = "reflection"  # the cluster of the grpcio servers, which serve the streams
OBJECTS = "objects"  # the cluster of the built-in object store's HTTP port
BROWSER_LOGIN = "browser-login"  # the cluster of the HTTP ports of projects
LOGIN_PATHS = ("/login", "/callback", "/logout")

# The transcoder of a REST request by the `route` that lua/outer.lua set: forms of body and reply, snake case names.
FLAVOURS = {
    "bin_bin": (Form.BINARY, Form.BINARY, False),
    "json_bin": (Form.JSON, Form.BINARY, False),
    "bin_snake": (Form.BINARY, Form.JSON, True),
    "json_snake": (Form.JSON, Form.JSON, True),
}
USUAL_FLAVOUR = (Form.JSON, Form.JSON, False)

# How long an upload or download may be idle in both directions.
OBJECT_IDLE = "60s"
# A login asks the provider two or three times, for up to 5 s each.
LOGIN_TIMEOUT = "20s"
# A method's time limit counts from the end of the request; a body that is not complete may be idle for this long more.
IDLE_MARGIN = 15  # seconds
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
HEALTH_TIMEOUT = "5s"
# For calls that get their response as soon as they are complete.
UNKNOWN_IDLE = limits.BODY_IDLE

CORS_METHODS = "GET, POST, DELETE, HEAD, PUT, PATCH"
# flyteadmin's two, and those without which gRPC-Web or a token cannot be used from another origin.
CORS_REQUEST_HEADERS = "Content-Type, flyte-authorization, authorization, x-grpc-web, x-user-agent, grpc-timeout"
CORS_REPLY_HEADERS = "grpc-status, grpc-message, grpc-status-details-bin"

GRPC = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
ORIGIN = {"name": "origin", "present_match": True}

POST = {"name": ":method", "string_match": {"exact": "POST"}}
GET = {"name": ":method", "string_match": {"exact": "GET"}}
# A gRPC call is a POST; services would reset anything else.
NO_CALL = {
    "match": {"prefix": "/", "headers": [GRPC, POST | {"invert_match": True}]},
    "direct_response": {"status": 405},
}


def _header(key: str, value: str) -> dict[str, Any]:
    """Return a header of the gateway's own; what a client sends under its name is overwritten."""
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


# The client connection of a call: to a service all calls come over the gateway's connections, and without the header
# one client could crowd out the others.
CONNECTION = _header("x-flyteplane-connection", "%CONNECTION_ID%")

# The address of the client, for the audit log: services do not read x-forwarded-for, which may be long.
ADDRESS = _header("x-flyteplane-address", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%")

# What is left of tokens, and sessions of browsers, does not reach services.
TOKENS = [*TOKEN_HEADERS, "cookie"]


def _without(key: str) -> dict[str, Any]:
    """Return a matcher of requests on which no script has set `key`."""
    return {"filter": filters.REST_SPACE, "path": [{"key": key}], "value": {"present_match": True}, "invert": True}


NOT_REST, NOT_ALLOWED_YET = _without("reply"), _without("page")


def route_table(
    routes: Routes,
    out: Path,
    *,
    reflection: bool,
    objects: bool,
    browser_login: bool,
    origins: Sequence[str],
    largest_message: int,
    secret: str,
    issuer: str,
) -> dict[str, Any]:
    """Return the route table.

    Args:
        routes: Which owner serves which method.
        out: The folder of the files that the configuration names.
        reflection: Whether there is a cluster for reflection and watched health; without it they are unknown methods.
        objects: Whether there is a cluster for the object store.
        browser_login: Whether there is a cluster for the login of browsers.
        origins: Origins of web pages that may call, in addition to the gateway's own.
        largest_message: The size limit of the services for a message, in bytes.
        secret: What services know the gateway by; empty: they do not need it.
        issuer: The issuer of callers' tokens; empty: no login.
    """
    return {
        "name": "flyteplane",
        "request_headers_to_add": [CONNECTION, ADDRESS, *([_header(GATEWAY_HEADER, secret)] if secret else [])],
        "virtual_hosts": [
            {
                "name": "flyteplane",
                "domains": ["*"],
                "typed_per_filter_config": {filters.CORS: _cors_policy(origins)} if origins else {},
                "request_body_buffer_limit": limits.RETRY_BUFFER,
                "routes": [
                    NO_CALL,
                    _page_route(routes),
                    *_without_tokens(_service_routes(routes, reflection=reflection), issuer),
                    {"match": {"path": "/healthcheck"}, "direct_response": {"status": 200}},
                    *([_discovery_route(issuer)] if issuer else []),
                    *_without_tokens([_objects_route(routes)] if objects else [], issuer),
                    *([_login_route(routes, path) for path in LOGIN_PATHS] if browser_login else []),
                    *(_rest_route(routes, out, largest_message, name) for name in FLAVOURS),
                    _get_route(routes, out, largest_message),
                    _rest_route(routes, out, largest_message),
                ],
            },
        ],
    }


def _service_routes(routes: Routes, *, reflection: bool) -> list[dict[str, Any]]:
    """Return the routes of gRPC calls, and of REST requests that have become such."""
    return [
        *(_method_route(routes, method) for method in routes.methods),
        _health_route(routes),
        *([_stream_route(routes)] if reflection else []),
        _unknown_route(routes),
    ]


def _without_tokens(made: Sequence[dict[str, Any]], issuer: str) -> list[dict[str, Any]]:
    """Return routes that keep tokens from the services behind them; without login there is nothing to keep."""
    return [route | {"request_headers_to_remove": TOKENS} for route in made] if issuer else list(made)


def _discovery_route(issuer: str) -> dict[str, Any]:
    """Return the route to the provider's own description of itself (gateway.md#authentication)."""
    location = issuer.rstrip("/") + DISCOVERY
    return {
        "match": {"path": DISCOVERY},
        "direct_response": {"status": 303},
        "response_headers_to_add": [_header("location", location)],
    }


def _method_route(routes: Routes, method: Method) -> dict[str, Any]:
    return {
        "match": {"path": f"/{method.name}", "headers": [GRPC]},
        "route": {
            "cluster": method.owner,
            "timeout": routes.timeouts[method.owner],
            "idle_timeout": _idle_timeout(routes.timeouts[method.owner]),
            "retry_policy": _retry_policy(routes.retries[method.kind]),
        },
    }


def _idle_timeout(timeout: str) -> str:
    """Return how long a call may be idle: longer than its time limit, all of which the service may use."""
    return f"{float(timeout.removesuffix('s')) + IDLE_MARGIN:g}s"


def _health_route(routes: Routes) -> dict[str, Any]:
    """Return the route of Health/Check, the only call of health and reflection that is no stream."""
    route = {"cluster": routes.health, "timeout": HEALTH_TIMEOUT, "idle_timeout": UNKNOWN_IDLE}
    return {"match": {"path": HEALTH_CHECK, "headers": [GRPC]}, "route": route}


def _stream_route(routes: Routes) -> dict[str, Any]:
    """Return the route of reflection and of watched health."""
    return _grpc_route("/grpc.", REFLECTION, routes, idle=limits.STREAM_IDLE, most="0s")


def _unknown_route(routes: Routes) -> dict[str, Any]:
    return _grpc_route("/", routes.unknown_methods, routes, idle=UNKNOWN_IDLE, most=limits.LONGEST_REQUEST)


def _grpc_route(prefix: str, cluster: str, routes: Routes, *, idle: str, most: str) -> dict[str, Any]:
    # No time limit from the request's end: reflection and Health/Watch are streams.
    policy = _retry_policy(routes.retries["write"])
    times = {"timeout": "0s", "idle_timeout": idle, "max_stream_duration": {"max_stream_duration": most}}
    return {
        "match": {"prefix": prefix, "headers": [GRPC]},
        "route": {"cluster": cluster, **times, "retry_policy": policy},
    }


def _page_route(routes: Routes) -> dict[str, Any]:
    """Return the route of gRPC calls from web pages to origin.lua; those it allows then take their method's route."""
    return {
        "match": {"prefix": "/", "headers": [GRPC, ORIGIN], "dynamic_metadata": [NOT_REST, NOT_ALLOWED_YET]},
        "route": {"cluster": routes.unknown_methods},
        "typed_per_filter_config": filters.pages_switched_on(),
    }


def _objects_route(routes: Routes) -> dict[str, Any]:
    # No time limit, and no bound on the size of an object: an upload that has outgrown the retry buffer is not retried.
    policy = _retry_policy(routes.retries["write"])
    times = {"timeout": "0s", "idle_timeout": OBJECT_IDLE, "max_stream_duration": {"max_stream_duration": "0s"}}
    return {
        "match": {"prefix": routes.objects_prefix},
        "route": {"cluster": OBJECTS, **times, "retry_policy": policy},
        "typed_per_filter_config": filters.pages_switched_on(),
    }


def _login_route(routes: Routes, path: str) -> dict[str, Any]:
    # A callback redeems its code once, so it is retried as a write is.
    return {
        "match": {"path": path, "headers": [GET]},
        "route": {
            "cluster": BROWSER_LOGIN,
            "timeout": LOGIN_TIMEOUT,
            "idle_timeout": _idle_timeout(LOGIN_TIMEOUT),
            "retry_policy": _retry_policy(routes.retries["write"]),
        },
        "typed_per_filter_config": filters.pages_switched_on(),
    }


def _rest_route(routes: Routes, out: Path, largest_message: int, name: str | None = None) -> dict[str, Any]:
    """Return the route that gives a request its transcoder; the transcoded request takes its method's route."""
    body, reply, snake_names = FLAVOURS[name] if name else USUAL_FLAVOUR
    match: dict[str, Any] = {"prefix": "/"}
    if name:
        value = {"string_match": {"exact": name}}
        match["dynamic_metadata"] = [{"filter": filters.REST_SPACE, "path": [{"key": "route"}], "value": value}]
    flavour = filters.transcoder(out, body, reply, largest_message, snake_names=snake_names)
    return {
        "match": match,
        # That of a request's first route holds, which is the usual flavour's: so the limit of all forms.
        "request_body_buffer_limit": largest_message,
        "route": {
            "cluster": routes.unknown_methods,
            "idle_timeout": limits.BODY_IDLE,
            "max_stream_duration": {"max_stream_duration": limits.LONGEST_BODY},
        },
        "typed_per_filter_config": filters.rest_switched_on(flavour),
    }


def _get_route(routes: Routes, out: Path, largest_message: int) -> dict[str, Any]:
    """Return the first route of REST requests whose methods take no body: a body is ignored, and must be small."""
    route = _rest_route(routes, out, largest_message)
    return route | {
        "match": route["match"] | {"headers": [GET]},
        "request_body_buffer_limit": min(limits.COUNTED_BODY, largest_message),
    }


def _retry_policy(retry: Retry) -> dict[str, Any]:
    return {
        "retry_on": ",".join(retry.on),
        "num_retries": retry.tries,
        "retry_back_off": {"base_interval": retry.first_pause, "max_interval": retry.longest_pause},
        # Prefer another server to the one that just failed.
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
                },
            },
        ],
        "host_selection_retry_max_attempts": 3,
    }


def _cors_policy(origins: Sequence[str]) -> dict[str, Any]:
    return {
        "@type": f"{filters.EXTENSIONS}.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"exact": origin} for origin in origins],
        "allow_methods": CORS_METHODS,
        "allow_headers": CORS_REQUEST_HEADERS,
        "expose_headers": CORS_REPLY_HEADERS,
        "allow_credentials": True,
    }
