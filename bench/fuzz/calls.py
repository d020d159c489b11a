"""A client that sends requests by gRPC or by REST, and the outcomes of its calls."""

import http.client
import json
import random
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import grpc
from google.protobuf.json_format import MessageToDict, SerializeToJsonError
from google.protobuf.message import Message

from bench.fuzz.mutations import mutated, mutated_bytes
from gateway.descriptors import Pattern, rest_patterns

# The deadline of a call; a response that takes less may be too slow already (`findings`).
CALL_SECONDS = 10.0
# flytekit's limits, for long error messages.
_OPTIONS = [("grpc.max_metadata_size", 32_768), ("grpc.max_receive_message_length", 20_971_520)]
_NO_CODE = 0
# The status when the connection was lost.
LOST = -1
JSON, BINARY = "application/json", "application/octet-stream"


class Outcome(NamedTuple):
    """The outcome of a call. `code` is gRPC's; `status` is HTTP's, 0 for a call by gRPC, LOST without a response."""

    method: str
    code: int
    status: int
    text: str
    seconds: float
    request: str
    """The request, to send it again: serialized in hex, or the REST request."""


class Caller:
    """One client with a gRPC connection and an HTTP/1.1 connection of its own; not for several threads."""

    def __init__(self, port: int, rng: random.Random) -> None:
        self._port = port
        self._rng = rng
        self._channel = grpc.insecure_channel(
            f"127.0.0.1:{port}", options=[*_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        )
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=CALL_SECONDS)
        self._patterns: dict[str, list[Pattern]] = {}
        for pattern in rest_patterns():
            self._patterns.setdefault("/" + pattern.method, []).append(pattern)

    def close(self) -> None:
        """End both connections."""
        self._channel.close()
        self._http.close()

    def call_mutated(self, path: str, valid: Message) -> Outcome:
        """Mutate a valid request to the method at `path` and send it by REST or gRPC."""
        request = mutated(valid, self._rng)
        patterns = self._patterns.get(path, [])
        if patterns and self._rng.random() < 0.5:  # noqa: PLR2004  # half of the calls
            outcome = self._rest(path, self._rng.choice(patterns), request)
            if outcome is not None:
                return outcome
        payload = request.SerializeToString()
        if self._rng.random() < 0.1:  # noqa: PLR2004  # one call in ten may be no valid protobuf
            payload = mutated_bytes(payload, self._rng)
        return self.grpc(path, payload)

    def grpc(self, path: str, payload: bytes) -> Outcome:
        """Call the method at `path`."""
        call = self._channel.unary_unary(path, request_serializer=None, response_deserializer=None)
        began = time.monotonic()
        try:
            call(payload, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            code, text = error.code().value[0], error.details() or ""
        else:
            code, text = _NO_CODE, ""
        return Outcome(path, code, 0, text, time.monotonic() - began, payload.hex())

    def get(self, path: str) -> tuple[int, bytes]:
        """Read a path over REST; return HTTP's status and the body."""
        status, body, _ = self._send("GET", path, b"", {"accept": JSON})
        return status, body

    def _rest(self, path: str, pattern: Pattern, request: Message) -> Outcome | None:
        """Send the request over REST; return None when it cannot be written as JSON."""
        try:
            fields = MessageToDict(request, preserving_proto_field_name=True)
        except (SerializeToJsonError, ValueError, RecursionError):
            return None
        target = pattern.path
        for variable in pattern.variables:
            text = str(_taken(fields, variable) or "")
            # Some clients escape a slash and some do not.
            target = target.replace(f"{{{variable}}}", quote(text, safe=self._rng.choice(("", "/"))))
        headers: dict[str, str] = {}
        body = b""
        if pattern.has_body:
            body, headers = self._body(request, fields)
        elif query := urlencode(list(_leaves(fields)))[:8000]:
            target += "?" + query
        if self._rng.random() < 0.3:  # noqa: PLR2004  # the console accepts binary, scripts send no header
            headers["accept"] = self._rng.choice((JSON, BINARY, "*/*", "text/html"))
        status, response, seconds = self._send(pattern.verb, target, body, headers)
        code, text = _failure(response)
        sent = f"{pattern.verb} {target} {headers} {body.hex()}"
        return Outcome(path, code if status != http.client.OK else _NO_CODE, status, text, seconds, sent)

    def _body(self, request: Message, fields: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
        kind = self._rng.randrange(4)
        if kind == 0:
            return request.SerializeToString(), {"content-type": BINARY}
        body = json.dumps(fields).encode()
        if kind == 1:
            body = mutated_bytes(body, self._rng)
        return body, {"content-type": JSON}

    def _send(self, verb: str, target: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes, float]:
        began = time.monotonic()
        try:
            self._http.request(verb, target, body or None, dict(headers))
            response = self._http.getresponse()
            return response.status, response.read(), time.monotonic() - began
        except (OSError, http.client.HTTPException) as error:
            self._http.close()  # it connects again by itself
            return LOST, repr(error).encode(), time.monotonic() - began


def _taken(fields: dict[str, Any], variable: str) -> Any:
    """Remove the field that a path binds from `fields` and return its value, None when it is unset."""
    *parents, last = variable.split(".")
    for parent in parents:
        fields = fields.get(parent) or {}
    return fields.pop(last, None)


def _leaves(fields: Mapping[str, Any], prefix: str = "") -> Any:
    """Yield the scalar fields with their names in a query."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        elif not isinstance(value, list):
            yield prefix + name, value


def _failure(response: bytes) -> tuple[int, str]:
    """Return code and message of a failure's body; 0 and the body's beginning when it is no google.rpc.Status."""
    try:
        status = json.loads(response)
        return int(status.get("code", 0)), str(status.get("message", ""))
    except (ValueError, AttributeError, TypeError):
        return 0, response[:200].decode(errors="replace")
