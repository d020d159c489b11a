"""One call by each way into the gateway, with any headers, and the gRPC status that the caller sees."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import unquote

import grpc
import httpx
from flyteidl.admin.version_pb2 import GetVersionRequest, GetVersionResponse

from services.kit.errors import Code
from tests.support.gateways import ADMIN, Gateway

Headers = Mapping[str, str] | Sequence[tuple[str, str]]
Way = Callable[[Gateway, Headers], Awaitable[tuple[Code, str]]]
PATH = f"/{ADMIN}/GetVersion"
_HTTP_CODES = {200: Code.OK, 401: Code.UNAUTHENTICATED, 403: Code.PERMISSION_DENIED, 503: Code.UNAVAILABLE}


async def by_grpc(gateway: Gateway, headers: Headers) -> tuple[Code, str]:
    """Call GetVersion by gRPC; return status and message."""
    call = gateway.channel.unary_unary(PATH, GetVersionRequest.SerializeToString, GetVersionResponse.FromString)
    try:
        await call(GetVersionRequest(), metadata=_pairs(headers), timeout=10)
    except grpc.aio.AioRpcError as error:
        return Code(error.code().value[0]), error.details() or ""
    return Code.OK, ""


async def by_rest(gateway: Gateway, headers: Headers) -> tuple[Code, str]:
    """Call it by REST; return status and message, which must agree with the HTTP status and the form of errors."""
    reply = await gateway.rest.get("/api/v1/version", headers=_pairs(headers))
    code = _HTTP_CODES[reply.status_code]
    if code is Code.OK:
        return code, ""
    error = reply.json()
    assert (error["code"], error["details"], reply.headers["content-type"]) == (code, [], "application/json")
    assert code is not Code.UNAUTHENTICATED or reply.headers["www-authenticate"].startswith("Bearer realm=")
    return code, error["message"]


async def by_grpc_web(gateway: Gateway, headers: Headers) -> tuple[Code, str]:
    """Call it by gRPC-Web; return status and message, from the headers or from the trailers in the body."""
    kind = (("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1"))
    reply = await gateway.rest.post(PATH, content=b"\0" * 5, headers=(*kind, *_pairs(headers)))
    found = {**_trailers(reply), **reply.headers}
    return Code(int(found["grpc-status"])), unquote(found.get("grpc-message", ""))


def _trailers(reply: httpx.Response) -> dict[str, str]:
    body = reply.content
    while body:
        flags, size = body[0], int.from_bytes(body[1:5], "big")
        if flags & 0x80:
            lines = body[5 : 5 + size].decode().split("\r\n")
            return {name: value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = body[5 + size :]
    return {}


def _pairs(headers: Headers) -> tuple[tuple[str, str], ...]:
    return tuple(headers.items() if isinstance(headers, Mapping) else headers)


WAYS: Mapping[str, Way] = {"gRPC": by_grpc, "REST": by_rest, "gRPC-Web": by_grpc_web}
