"""Signed uploads and downloads of a file:// object store, streamed, as HTTP routes for the gateway's /objects/."""

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from services.kit.errors import Code, NotFound, OutOfRange, ServiceError
from services.kit.objects.local_files import too_large
from services.kit.objects.store import OBJECTS_PATH, ObjectStore

_STATUS = {
    Code.INVALID_ARGUMENT: 400,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.FAILED_PRECONDITION: 409,
    Code.RESOURCE_EXHAUSTED: 413,
    Code.UNAVAILABLE: 503,
}

# What somebody uploaded is shown under the gateway's own name. A deck's scripts run, but in a sandbox with an origin of
# its own, from which they reach neither the console nor the API as whoever looks at it.
_SANDBOXED = {
    "Content-Security-Policy": "sandbox allow-scripts allow-popups allow-downloads",
    "X-Content-Type-Options": "nosniff",
}
# One range, as RFC 9110 (14.1.2) writes it; what is not, is answered as if no range was asked for.
_RANGE = re.compile(r"bytes=(?:([0-9]{1,100})-([0-9]{1,100})?|-([0-9]{1,100}))", re.IGNORECASE)


def object_routes(store: ObjectStore, upload_max_bytes: int) -> list[Route]:
    """The routes of `store`; none when the store signs its own URLs."""
    if not store.local:
        return []
    front = _ObjectFront(store, upload_max_bytes)
    return [Route(OBJECTS_PATH + "{path:path}", front.serve, methods=["GET", "PUT"])]


class _ObjectFront:
    def __init__(self, store: ObjectStore, upload_max_bytes: int) -> None:
        self._store = store
        self._upload_max_bytes = upload_max_bytes

    async def serve(self, request: Request) -> Response:
        path = request.path_params["path"]
        try:
            if request.method == "PUT":
                self._store.check_signature("PUT", path, request.query_params)
                return await self._upload(request, path)
            self._store.check_signature("GET", path, request.query_params)
            return await self._download(request, self._store.uri(path))
        except ClientDisconnect:
            return PlainTextResponse("the upload broke off", status_code=400)
        except ServiceError as error:
            # The connection stays open while an unwanted body still comes; closed, it would take the answer along.
            return PlainTextResponse(error.message, status_code=_STATUS.get(error.code, 500), headers=_SANDBOXED)

    async def _upload(self, request: Request, path: str) -> Response:
        if int(request.headers.get("content-length", 0)) > self._upload_max_bytes:
            raise too_large(self._upload_max_bytes)
        upload = await self._store.upload()
        try:
            async for piece in request.stream():
                await asyncio.to_thread(upload.write, piece, self._upload_max_bytes)
            expected = bytes.fromhex(request.query_params.get("md5", ""))
            await asyncio.to_thread(upload.publish, path, expected)
        finally:
            await asyncio.shield(asyncio.to_thread(upload.discard))
        return Response(status_code=200)

    async def _download(self, request: Request, uri: str) -> Response:
        info = await self._store.head(uri)
        if info is None:
            raise NotFound("there is no such object")
        headers = {**_SANDBOXED, "Accept-Ranges": "bytes", "Content-Length": str(info.size)}
        # A deck is shown by the console inside a frame; everything else is only downloaded.
        media_type = "text/html" if uri.endswith(".html") else "application/octet-stream"
        if media_type != "text/html":
            headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(uri.rpartition('/')[2], safe='')}"
        if request.method == "HEAD":
            return Response(headers=headers, media_type=media_type)
        try:
            asked = _range(request, info.size)
        except OutOfRange as error:
            return PlainTextResponse(error.message, 416, {**_SANDBOXED, "Content-Range": f"bytes */{info.size}"})
        start, count = asked or (0, info.size)
        if asked:
            headers["Content-Length"] = str(count)
            headers["Content-Range"] = f"bytes {start}-{start + count - 1}/{info.size}"
        pieces = self._store.pieces(uri, start, count)
        return _Download(pieces, 206 if asked else 200, headers=headers, media_type=media_type)


class _Download(StreamingResponse):
    """A response that lets go of its object also when its reader goes, or is left, before the end."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], status: int, **rest: Any) -> None:
        super().__init__(pieces, status, **rest)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the object."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._pieces.aclose()


def _range(request: Request, size: int) -> tuple[int, int] | None:
    """Return where the bytes that are asked for begin and how many they are, None for all.

    Raises OutOfRange where there are none. If-Range asks for all unless the object is still the same, and nothing here
    tells one from another.
    """
    asked = _RANGE.fullmatch(request.headers.get("range", ""))
    if asked is None or "if-range" in request.headers:
        return None
    first, last, suffix = asked.groups()
    if suffix is not None:
        start, end = max(size - int(suffix), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last is not None else size
        if last is not None and int(last) < start:
            return None
    if start >= size:
        raise OutOfRange(f"the object has {size} bytes, none of them in the range that is asked for")
    return start, end - start
