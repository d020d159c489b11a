"""HTTP routes for signed uploads and downloads of a file:// object store, behind the gateway's /objects/."""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from services.kit.errors import Code, InvalidArgument, NotFound, OutOfRange, ServiceError
from services.kit.objects.gateway_urls import OBJECTS_PATH
from services.kit.objects.local_files import too_large
from services.kit.objects.store import ObjectStore
from services.kit.process.http_server import MOST_DOWNLOADS, RETRY_SOON
from services.kit.rpc.fairness import FairBudget

log = logging.getLogger(__name__)

_STATUS = {
    Code.INVALID_ARGUMENT: 400,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.FAILED_PRECONDITION: 409,
    Code.RESOURCE_EXHAUSTED: 413,
    Code.UNAVAILABLE: 503,
}

# A signed query has 160 bytes. A longer one is refused before it is parsed, which takes 60 ms for the 60 KiB that Envoy
# passes.
_MOST_QUERY_BYTES = 1024

# Uploads at a time to one path: retries, and clients that upload the same package. One URL must not take all capacity.
_MOST_UPLOADS_OF_PATH = 16

# Uploaded content is served from the gateway's origin. The sandbox gives a deck's scripts an opaque origin, from which
# they cannot use the console or the API with the credentials of the user who views it.
_SANDBOXED = {
    "Content-Security-Policy": "sandbox allow-scripts allow-popups allow-downloads",
    "X-Content-Type-Options": "nosniff",
}
# One range (RFC 9110, 14.1.2); anything else is ignored.
_RANGE = re.compile(r"bytes=(?:([0-9]{1,100})-([0-9]{1,100})?|-([0-9]{1,100}))", re.IGNORECASE)


def object_routes(store: ObjectStore, upload_max_bytes: int) -> list[Route]:
    """Return the routes of `store`; none when the store signs its own URLs."""
    if not store.local:
        return []
    handlers = _ObjectRoutes(store, upload_max_bytes)
    return [Route(OBJECTS_PATH + "{path:path}", handlers.serve, methods=["GET", "PUT"])]


class _ObjectRoutes:
    def __init__(self, store: ObjectStore, upload_max_bytes: int) -> None:
        self._store = store
        self._upload_max_bytes = upload_max_bytes
        self._uploads: Counter[str] = Counter()  # under way, by path
        self._downloads = FairBudget(MOST_DOWNLOADS)  # shared by paths

    async def serve(self, request: Request) -> Response:
        if len(request.scope["query_string"]) > _MOST_QUERY_BYTES:
            message = f"the query is too long: it may have {_MOST_QUERY_BYTES} bytes"
            return PlainTextResponse(message, 414, headers=_SANDBOXED)
        path = request.path_params["path"]
        try:
            if request.method == "PUT":
                self._store.urls.check("PUT", path, request.query_params)
                return await self._upload_in_turn(request, path)
            self._store.urls.check("GET", path, request.query_params)
            return await self._download(request, self._store.uri(path))
        except ClientDisconnect:
            return PlainTextResponse("the upload broke off", status_code=400)
        except ServiceError as error:
            # The connection stays open while the rest of a refused body arrives: closing it would lose the response.
            return PlainTextResponse(error.message, status_code=_STATUS.get(error.code, 500), headers=_SANDBOXED)

    async def _upload_in_turn(self, request: Request, path: str) -> Response:
        if self._uploads[path] >= _MOST_UPLOADS_OF_PATH:
            return PlainTextResponse("too many uploads to this path at a time", 429, {**_SANDBOXED, **RETRY_SOON})
        self._uploads[path] += 1
        try:
            return await self._upload(request, path)
        finally:
            self._uploads[path] -= 1
            if not self._uploads[path]:
                del self._uploads[path]

    async def _upload(self, request: Request, path: str) -> Response:
        if "content-range" in request.headers:
            # The part would be stored as the whole object (RFC 9110, 14.4).
            raise InvalidArgument("parts of an object cannot be uploaded: the request has a Content-Range")
        if int(request.headers.get("content-length", 0)) > self._upload_max_bytes:
            raise too_large(self._upload_max_bytes)
        upload = await self._store.upload()
        try:
            async for piece in request.stream():
                await asyncio.to_thread(upload.write, piece, self._upload_max_bytes)
            expected = bytes.fromhex(request.query_params.get("md5", ""))
            await self._store.publish(upload, path, expected)
        finally:
            await asyncio.shield(asyncio.to_thread(upload.discard))
        return Response(status_code=200)

    async def _download(self, request: Request, uri: str) -> Response:
        info = await self._store.head(uri)
        if info is None:
            raise NotFound("there is no such object")
        headers = {**_SANDBOXED, "Accept-Ranges": "bytes", "Content-Length": str(info.size)}
        # The console shows a deck in a frame; all other objects are only downloaded.
        media_type = "text/html" if uri.endswith(".html") else "application/octet-stream"
        if media_type != "text/html":
            headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(uri.rpartition('/')[2], safe='')}"
        if request.method == "HEAD":
            return Response(headers=headers, media_type=media_type)
        try:
            byte_range = _range(request, info.size)
        except OutOfRange as error:
            return PlainTextResponse(error.message, 416, {**_SANDBOXED, "Content-Range": f"bytes */{info.size}"})
        start, count = byte_range or (0, info.size)
        if byte_range:
            headers["Content-Length"] = str(count)
            headers["Content-Range"] = f"bytes {start}-{start + count - 1}/{info.size}"
        pieces = self._store.pieces(uri, start, count)
        status = 206 if byte_range else 200
        return _Download(pieces, status, self._downloads, uri, headers=headers, media_type=media_type)


class _Download(StreamingResponse):
    """A streamed response that closes its object in any case, also when the client disconnects.

    Args:
        pieces: the content.
        status: 200 or 206.
        budget: downloads at a time, shared by objects: slow readers of one must not take all capacity.
        uri: the object.
        rest: the other parameters of a StreamingResponse.
    """

    def __init__(
        self, pieces: AsyncGenerator[bytes, None], status: int, budget: FairBudget, uri: str, **rest: Any
    ) -> None:
        super().__init__(pieces, status, **rest)
        self._pieces = pieces
        self._budget = budget
        self._uri = uri

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the object, or 503 when it is downloaded too often at the moment."""
        if not self._budget.acquire(self._uri, 1):
            headers = {**_SANDBOXED, **RETRY_SOON}
            await PlainTextResponse("too many downloads of this object at a time", 503, headers)(scope, receive, send)
            return
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._budget.release(self._uri, 1)
            await self._pieces.aclose()

    async def stream_response(self, send: Send) -> None:
        """Send status and pieces; end the connection when the object cannot be read further."""
        try:
            await super().stream_response(send)
        except (ServiceError, OSError) as error:
            log.warning("a download breaks off", extra={"uri": self._uri, "cause": str(error)})


def _range(request: Request, size: int) -> tuple[int, int] | None:
    """Return start and length of the requested range, None for the whole object.

    If-Range requests the whole object unless it is unchanged, and there is no validator to compare.

    Raises:
        OutOfRange: no byte of the object is in the range.
    """
    byte_range = _RANGE.fullmatch(request.headers.get("range", ""))
    if byte_range is None or "if-range" in request.headers:
        return None
    first, last, suffix = byte_range.groups()
    if suffix is not None:
        start, end = max(size - int(suffix), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last is not None else size
        if last is not None and int(last) < start:
            return None
    if start >= size:
        raise OutOfRange(f"the object has {size} bytes, none of them in the range that is asked for")
    return start, end - start
