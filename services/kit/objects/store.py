"""The object store of the control plane: inputs, outputs, closures and uploads, by URI.

Any store that obstore knows (`s3://`, `gs://`, `az://`, `file://`). Signed URLs come from the store itself; a `file://`
store cannot sign, so its URLs point at the gateway, carry an HMAC and are served by `object_front`.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import obstore
from google.protobuf.message import DecodeError
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, from_url

from services.kit.errors import InvalidArgument, NotFound, PermissionDenied, Unavailable
from services.kit.objects.local_files import LocalFiles, Unreadable, Upload, check_size
from services.kit.objects.names import check_path
from services.kit.process.telemetry import OBJECTS_MISSED

log = logging.getLogger(__name__)

# Under this path of the gateway, objects of a file:// store are uploaded and downloaded.
OBJECTS_PATH = "/objects/"
# Read at once of an object that is being downloaded. A slow reader holds this much, twice: here and in the connection.
_PIECE_BYTES = 64 * 1024

# An object that is written to know that others could be; a block of a disk.
_TRIAL = ".trial"
_TRIAL_BYTES = b"\0" * 4096

Verb = Literal["GET", "PUT"]
Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class ObjectInfo:
    """What is known of an object without reading it."""

    size: int  # bytes
    etag: str  # empty in a file:// store


@dataclass(frozen=True)
class SignedPut:
    """A URL to upload to, and the headers that must come with the upload."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


class ObjectStore:
    """Objects below one base URL; every URI it takes and gives is absolute."""

    def __init__(self, base: str, store: Any, public_url: str, key: bytes) -> None:
        self._base = base.rstrip("/")
        self._store = store
        self._public_url = public_url.rstrip("/")
        self._key = key
        self._files = LocalFiles(Path(str(store.prefix))) if isinstance(store, LocalStore) else None
        self.local = self._files is not None

    @classmethod
    def open(cls, url: str, public_url: str, signing_key: str) -> Self:
        """Open the store at `url`; a folder of a file:// store is made when missing."""
        if url.startswith("file://"):
            folder = Path(urlsplit(url).path)
            folder.mkdir(parents=True, exist_ok=True)
            return cls(url, LocalStore(folder, mkdir=True, automatic_cleanup=True), public_url, signing_key.encode())
        return cls(url, from_url(url), public_url, signing_key.encode())

    def uri(self, *parts: str) -> str:
        """The URI of the object at `parts` below the base; empty parts are dropped."""
        return "/".join([self._base, *(part.strip("/") for part in parts if part.strip("/"))])

    def path(self, uri: str) -> str:
        """The path of `uri` inside this store; raises InvalidArgument for a URI that is not below its base."""
        path = uri.removeprefix(self._base + "/")
        if path == uri:
            raise InvalidArgument(f"invalid uri: {uri} is not an object of this control plane's store")
        check_path(path, uri)
        if self._files:
            self._files.check_path(path)
        return path

    async def put(self, uri: str, data: bytes) -> None:
        """Write the object, over an older one. Raises Unavailable."""
        try:
            await obstore.put_async(self._store, self.path(uri), data)
        except (BaseError, OSError) as error:
            raise Unavailable(f"the object store does not take {uri}") from error

    async def get(self, uri: str, most_bytes: int | None = None) -> bytes:
        """Read the whole object; raises LargeObject for more than `most_bytes`, NotFound, Unreadable, Unavailable."""
        path = self.path(uri)
        if self._files:
            return await asyncio.to_thread(self._files.read, path, most_bytes)
        try:
            found = await obstore.get_async(self._store, path)
            check_size(uri, found.meta["size"], most_bytes)
            return bytes(await found.bytes_async())
        except (FileNotFoundError, BaseError, OSError) as error:
            raise _failure(uri, error) from error

    async def find(self, uri: str, parse: Callable[[bytes], Parsed], most_bytes: int | None = None) -> Parsed | None:
        """Read the object and parse it; raises Unavailable while the store is down, LargeObject as `get`.

        Answers None, logged and counted, for what will not come back: an object that is gone, unreadable or not what it
        should be, or that is not in this store. It must not hide what else is known.
        """
        try:
            return parse(await self.get(uri, most_bytes))
        except (NotFound, Unreadable, InvalidArgument, DecodeError) as error:
            missed(uri, error)
            return None

    async def pieces(self, uri: str, start: int, count: int) -> AsyncGenerator[bytes, None]:
        """Read `count` bytes from `start` of an object of a file:// store; raises NotFound, Unavailable."""
        file, _ = await asyncio.to_thread(self._local.open, self.path(uri))
        with file:
            await asyncio.to_thread(file.seek, start)
            while count > 0 and (piece := await asyncio.to_thread(file.read, min(count, _PIECE_BYTES))):
                count -= len(piece)
                yield piece

    async def head(self, uri: str) -> ObjectInfo | None:
        """Size and digest of the object, or None when there is none. Raises Unreadable, Unavailable."""
        path = self.path(uri)
        try:
            if self._files:
                return ObjectInfo(await asyncio.to_thread(self._files.size, path), "")
            meta = await obstore.head_async(self._store, path)
        except (NotFound, FileNotFoundError):
            return None
        except (BaseError, OSError) as error:
            raise _failure(uri, error) from error
        return ObjectInfo(meta["size"], (meta["e_tag"] or "").strip('"'))

    async def find_info(self, uri: str) -> ObjectInfo | None:
        """As `head`; answers None, logged and counted, for what `find` would not answer either."""
        try:
            info = await self.head(uri)
        except (Unreadable, InvalidArgument) as error:
            missed(uri, error)
            return None
        if info is None:
            missed(uri, NotFound("object not found"))
        return info

    async def check_room(self, uri: str) -> None:
        """Raise FailedPrecondition where no file can be, as a folder is there, or a file in place of a folder."""
        path = self.path(uri)
        if self._files:
            await asyncio.to_thread(self._files.check_room, path)

    async def md5(self, uri: str) -> bytes | None:
        """The digest of an object of a file:// store; other stores tell it as the etag, or not. Raises NotFound."""
        return await asyncio.to_thread(self._files.md5, self.path(uri)) if self._files else None

    async def upload(self) -> Upload:
        """Begin an upload to a file:// store. Raises Unavailable."""
        return await asyncio.to_thread(self._local.upload)

    async def delete(self, uris: Iterable[str]) -> None:
        """Delete objects that are there. Raises Unavailable."""
        try:
            await obstore.delete_async(self._store, [self.path(uri) for uri in uris])
        except (BaseError, OSError) as error:
            raise Unavailable("the object store does not delete") from error

    async def delete_older(self, place: Sequence[str], before: datetime) -> int:
        """Delete the objects below `place` that were written before `before`; answers how many. Raises Unavailable."""
        deleted = 0
        try:
            async for chunk in obstore.list(self._store, prefix="/".join(place)):
                old = [meta["path"] for meta in chunk if meta["last_modified"] < before]
                if old:
                    await obstore.delete_async(self._store, old)
                    deleted += len(old)
        except (BaseError, OSError) as error:
            raise Unavailable(f"the object store does not delete below {'/'.join(place)}") from error
        return deleted

    async def check_writes(self) -> None:
        """Raise Unavailable unless a store on this machine would take an object now; others are not asked."""
        if self.local:
            try:
                await obstore.put_async(self._store, _TRIAL, _TRIAL_BYTES)
                await obstore.delete_async(self._store, _TRIAL)
            except FileNotFoundError:
                return  # a replica has deleted it
            except (BaseError, OSError) as error:
                raise Unavailable("the object store takes no objects") from error

    async def sign_get(self, uri: str, expires: timedelta) -> str:
        """A URL from which anybody can download the object until it expires."""
        path = self.path(uri)
        if self.local:
            return self._signed_here("GET", path, expires, b"")
        return await self._signed_there("GET", path, expires)

    async def sign_put(self, uri: str, expires: timedelta, content_md5: bytes | None) -> SignedPut:
        """A URL to which anybody can upload the object until it expires.

        On a file:// store an upload with `content_md5` (16 bytes) must have that digest, and never replaces another.
        Other stores check the Content-MD5 header that clients send by themselves; their signature covers neither it nor
        a condition (docs/decisions/0019-uploads-are-written-once.md).
        """
        path = self.path(uri)
        if not self.local:
            return SignedPut(await self._signed_there("PUT", path, expires))
        headers = {"Content-MD5": base64.b64encode(content_md5).decode()} if content_md5 else {}
        return SignedPut(self._signed_here("PUT", path, expires, content_md5 or b""), headers)

    async def _signed_there(self, verb: Verb, path: str, expires: timedelta) -> str:
        try:
            return await obstore.sign_async(self._store, verb, path, expires)
        except (BaseError, OSError) as error:  # some stores are asked for a signature
            raise Unavailable(f"the object store does not sign {path}") from error

    def _signed_here(self, verb: Verb, path: str, expires: timedelta, md5: bytes) -> str:
        end = int((datetime.now(UTC) + expires).timestamp())
        query = {"expires": str(end), "md5": md5.hex()}
        query["signature"] = self._signature(verb, path, query)
        return f"{self._public_url}{OBJECTS_PATH}{quote(path)}?{urlencode(query)}"

    def check_signature(self, verb: Verb, path: str, query: Mapping[str, str]) -> None:
        """Raise PermissionDenied unless `query` is a live signature of this store for `verb` on `path`."""
        expected = self._signature(verb, path, query)
        if not hmac.compare_digest(expected.encode(), query.get("signature", "").encode(errors="replace")):
            raise PermissionDenied("the signature does not fit the request")
        if int(query["expires"]) < datetime.now(UTC).timestamp():
            raise PermissionDenied("the signed URL has expired")

    def _signature(self, verb: Verb, path: str, query: Mapping[str, str]) -> str:
        # As JSON, in which no text can pass for two: a path may hold whatever separates others.
        text = json.dumps([verb, path, query.get("expires", ""), query.get("md5", "")])
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    @property
    def _local(self) -> LocalFiles:
        if self._files is None:
            raise TypeError("only a file:// store is served here")
        return self._files


def missed(uri: str, error: Exception) -> None:
    """Log and count an object that cannot be answered and will not come back."""
    OBJECTS_MISSED.labels(type(error).__name__).inc()
    log.warning("an object cannot be answered", extra={"uri": uri, "cause": str(error)})


def _failure(uri: str, error: Exception) -> NotFound | Unavailable:
    if isinstance(error, FileNotFoundError):
        return NotFound(f"object not found: {uri}")
    # Amazon S3 answers so for an object that is gone, when the bucket may not be listed.
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return Unreadable(f"the object store does not give {uri}")
    return Unavailable(f"the object store does not answer for {uri}")
