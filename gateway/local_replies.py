"""Replies that Envoy makes itself, in the form that clients expect (gateway.md#errors-of-the-gateway-itself)."""

from typing import Any

from gateway import authentication, filters

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


def config(*, login: bool) -> dict[str, Any]:
    """Return the local_reply_config of the connection manager: the first mapper that fits a reply acts."""
    return {
        "mappers": [
            *(_login_mappers() if login else []),
            *_grpc_mappers(),
            _unwritable_mapper(),
            *_textless_mappers(),
            *_rest_mappers(),
        ]
    }


def _login_mappers() -> list[dict[str, Any]]:
    """Return the mappers of refused tokens for which Envoy chooses a status that would mislead clients.

    A token for another application is 401 as any other wrong token, so that clients log in again: Envoy's choice is
    403. Without the provider's keys no token can be judged, which is 503: clients try that again.
    """
    return [
        mapper
        for refusal, sent, status in ((authentication.OTHER_AUDIENCE, 403, 401), (authentication.NO_KEYS, 401, 503))
        for mapper in _refusal_mappers(refusal, sent, status)
    ]


def _refusal_mappers(refusal: str, sent: int, status: int) -> list[dict[str, Any]]:
    path = [{"key": authentication.REFUSAL}, {"key": "message"}]
    value = {"string_match": {"exact": refusal}}
    matcher = {"filter": authentication.FILTER, "path": path, "value": value}
    refused = {"metadata_filter": {"matcher": matcher, "match_if_key_not_found": False}}
    grpc = {"and_filter": {"filters": [_status_is(sent), _is_rest(rest=False), refused]}}
    return [
        {"filter": grpc, "status_code": status},  # from which Envoy makes that of gRPC
        _rest_mapper(sent, "%LOCAL_REPLY_BODY%", refused, status=status),
    ]


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


def _rest_mapper(sent: int, message: str, *conditions: dict[str, Any], status: int | None = None) -> dict[str, Any]:
    """Return the mapper of Envoy's replies with the status `sent`, which may get another status."""
    return {
        "filter": {"and_filter": {"filters": [_status_is(sent), _is_rest(rest=True), *conditions]}},
        **({"status_code": status} if status else {}),
        "body_format_override": {
            "json_format": {"code": CODES[status or sent], "message": message, "details": []},
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
