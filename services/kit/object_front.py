"""Signed uploads and downloads of a file:// object store, streamed, as HTTP routes for the gateway's /objects/."""

import hashlib
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from services.kit.errors import InvalidArgument, NotFound, PermissionDenied, ServiceError, Unavailable
from services.kit.objects import OBJECTS_PATH, ObjectStore

_STATUS: dict[type[ServiceError], int] = {
    PermissionDenied: 403,
    NotFound: 404,
    InvalidArgument: 400,
    Unavailable: 503,
}


def object_routes(store: ObjectStore) -> list[Route]:
    """The routes of `store`; none when the store signs its own URLs."""
    if not store.local:
        return []
    front = _ObjectFront(store)
    return [Route(OBJECTS_PATH + "{path:path}", front.serve, methods=["GET", "PUT"])]


class _ObjectFront:
    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def serve(self, request: Request) -> Response:
        path = request.path_params["path"]
        try:
            if request.method == "PUT":
                self._store.check_signature("PUT", path, request.query_params)
                return await self._upload(request, self._store.uri(path))
            self._store.check_signature("GET", path, request.query_params)
            return await self._download(request, self._store.uri(path))
        except ClientDisconnect:
            return PlainTextResponse("the upload broke off", status_code=400)
        except ServiceError as error:
            return PlainTextResponse(error.message, status_code=_STATUS.get(type(error), 500))

    async def _upload(self, request: Request, uri: str) -> Response:
        expected = bytes.fromhex(request.query_params.get("md5", ""))
        digest = hashlib.md5(usedforsecurity=False)

        async def checked() -> AsyncIterator[bytes]:
            async for chunk in request.stream():
                digest.update(chunk)
                yield chunk
            # Raised before the object becomes visible: a broken upload never replaces a whole object.
            if expected and digest.digest() != expected:
                raise InvalidArgument("the upload does not have the MD5 digest it was signed for")

        await self._store.put_stream(uri, checked())
        if request.query_params.get("keep") == "1":
            await self._store.keep_md5(uri, digest.digest())
        return Response(status_code=200)

    async def _download(self, request: Request, uri: str) -> Response:
        info = await self._store.head(uri)
        if info is None:
            raise NotFound("there is no such object")
        headers = {"Content-Length": str(info.size)}
        if request.method == "HEAD":
            return Response(headers=headers)
        return StreamingResponse(self._store.get_stream(uri), headers=headers, media_type=_media_type(uri))


def _media_type(uri: str) -> str:
    # A deck is shown by the console inside a frame; everything else is only downloaded.
    return "text/html" if uri.endswith(".html") else "application/octet-stream"
