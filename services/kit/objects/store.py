"""The object store of the control plane: inputs, outputs, closures and uploads, by URI.

It is a folder of a bucket (`s3://`, `gs://`, `abfs://`) or of a disk (`file://`). Everything is written there; objects
in other buckets of the same provider, where engines write, can be read and signed if `BucketAccess` allows it.
Providers sign URLs themselves; those of `file://` point to the gateway, have an HMAC as signature and are served by
`http_routes`.
"""

import asyncio
import base64
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

import obstore
from google.protobuf.message import DecodeError
from obstore.exceptions import BaseError
from obstore.store import AzureStore, LocalStore

from services.kit.errors import InvalidArgument, NotFound, Unavailable
from services.kit.objects.buckets import BucketAccess
from services.kit.objects.errors import UnreadableObject, check_object_size
from services.kit.objects.gateway_urls import GatewayUrls, Verb
from services.kit.objects.local_files import LocalFiles, Upload
from services.kit.objects.paths import check_path
from services.kit.objects.providers import OtherBuckets, open_bucket, read_error
from services.kit.process.telemetry import OBJECTS_LOST
from services.kit.rpc.fairness import FairSemaphore

log = logging.getLogger(__name__)

# Bytes per read of a download. A slow reader occupies them twice: here and in the connection.
_PIECE_BYTES = 64 * 1024

# Publishing a larger upload can take seconds: it is synced to disk, and compared with the object that is there.
_MOST_QUICK_BYTES = 16 * 1024 * 1024
# Larger uploads that are published at a time; a path takes one turn, however many uploads to it wait. They occupy
# threads that all work on objects shares.
_LARGE_UPLOADS = 2

# An object that is written to check that the store accepts writes; one block of a disk.
_TRIAL_OBJECT = ".trial"
_TRIAL_BYTES = b"\0" * 4096

# Azure requires it of an upload.
_AZURE_UPLOAD = {"x-ms-blob-type": "BlockBlob"}

# In the text of obstore's error for a list that is not permitted; it has no class of its own.
_FORBIDDEN = "status code: 403"

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class ObjectInfo:
    """Metadata of an object."""

    size: int  # bytes
    etag: str  # empty in a file:// store


@dataclass(frozen=True)
class SignedPut:
    """A URL for an upload, and the headers that the upload must have."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


class _Located(NamedTuple):
    """Where an object is read."""

    store: Any
    path: str
    own: bool
    """Whether it is below the base."""


class ObjectStore:
    """Objects below one base URL, and those of other buckets that may be read; all URIs are absolute.

    Args:
        base: base URL of the objects.
        store: their store.
        public_url: URL of the gateway, for signed URLs of a file:// store.
        key: key of those signatures.
        others: the other buckets; None for none.
    """

    def __init__(self, base: str, store: Any, public_url: str, key: bytes, others: OtherBuckets | None = None) -> None:
        self._base = base.rstrip("/")
        self._store = store
        self._others = others
        self.urls = GatewayUrls(public_url, key)
        # Set for a file:// store only, whose URLs are signed and served here.
        self._local_files = LocalFiles(Path(str(store.prefix))) if isinstance(store, LocalStore) else None
        self._large_uploads = FairSemaphore(_LARGE_UPLOADS)

    @classmethod
    def open(cls, url: str, public_url: str, signing_key: str, access: BucketAccess | None = None) -> Self:
        """Open the store at `url`; the folder of a file:// store is created when missing, here only.

        Args:
            url: base URL of the objects.
            public_url: URL of the gateway, for signed URLs of a file:// store.
            signing_key: key of those signatures.
            access: how buckets are reached, and which others may be read. The bucket of `url` always may, as a whole:
                an engine's objects need not be below `url`.
        """
        if url.startswith("file://"):
            folder = Path(urlsplit(url).path)
            LocalFiles(folder).make()
            return cls(url, LocalStore(folder, automatic_cleanup=True), public_url, signing_key.encode())
        access = (access or BucketAccess()).with_bucket_of(url)
        own = access.located(url.rstrip("/"))
        store = open_bucket(access, own, prefix=own.key)
        return cls(url, store, public_url, signing_key.encode(), OtherBuckets(own, access))

    @property
    def local(self) -> bool:
        """Whether this is a file:// store."""
        return self._local_files is not None

    def uri(self, *parts: str) -> str:
        """Return the URI of the object at `parts` below the base; empty parts are dropped."""
        return "/".join([self._base, *(part.strip("/") for part in parts if part.strip("/"))])

    async def _locate(self, uri: str) -> _Located:
        """Return where an object is read.

        Raises:
            InvalidArgument: it is in no bucket that may be read.
            UnreadableObject: its bucket cannot be opened.
        """
        if self._others is None or uri.startswith(self._base + "/"):
            return _Located(self._store, self.path(uri), own=True)
        return _Located(*await self._others.locate(uri), own=False)

    def path(self, uri: str) -> str:
        """Return the path of `uri` in this store; raise InvalidArgument for a URI that is not below its base."""
        path = uri.removeprefix(self._base + "/")
        if path == uri:
            raise InvalidArgument(f"invalid uri: {uri} is not an object of this control plane's store")
        check_path(path, uri)
        if self._local_files:
            self._local_files.check_path(path)
        return path

    async def put(self, uri: str, data: bytes) -> None:
        """Write the object; replace an older one. Raise Unavailable."""
        path = self.path(uri)
        try:
            if self._local_files:
                await asyncio.to_thread(self._put_file, self._local_files, path, data)
            else:
                await obstore.put_async(self._store, path, data)
        except (BaseError, OSError) as error:
            raise Unavailable(f"the object store does not take {uri}") from error

    def _put_file(self, files: LocalFiles, path: str, data: bytes) -> None:
        files.check_present()  # obstore would make the folder of a store that is not there
        obstore.put(self._store, path, data)

    async def get(self, uri: str, most_bytes: int | None = None) -> bytes:
        """Return the content. Raise LargeObject above `most_bytes`, NotFound, UnreadableObject or Unavailable."""
        if self._local_files:
            return await asyncio.to_thread(self._local_files.read, self.path(uri), most_bytes)
        located = await self._locate(uri)
        try:
            result = await obstore.get_async(located.store, located.path)
            check_object_size(uri, result.meta["size"], most_bytes)
            return bytes(await result.bytes_async())
        except FileNotFoundError as error:
            await self._check_bucket(located)
            raise NotFound(f"object not found: {uri}") from error
        except (BaseError, OSError) as error:
            raise read_error(uri, error, own=located.own) from error

    async def find(self, uri: str, parse: Callable[[bytes], Parsed], most_bytes: int | None = None) -> Parsed | None:
        """Return the parsed object, or None if it is permanently lost.

        An object is lost when it is deleted, unreadable, malformed or in a bucket that is not there or may not be read.
        That is logged and counted and not raised, so that the rest of a reply can be returned.

        Args:
            uri: URI of the object.
            parse: parses its content.
            most_bytes: size limit; None for none.

        Raises:
            LargeObject: the object is larger than `most_bytes`.
            Unavailable: the store is down.
        """
        try:
            return parse(await self.get(uri, most_bytes))
        except (NotFound, UnreadableObject, InvalidArgument, DecodeError) as error:
            report_lost_object(uri, error)
            return None

    async def pieces(self, uri: str, start: int, count: int) -> AsyncGenerator[bytes, None]:
        """Yield `count` bytes from `start` of an object of a file:// store. Raise NotFound or Unavailable."""
        file, _ = await asyncio.to_thread(self._require_local_files().open, self.path(uri))
        with file:
            await asyncio.to_thread(file.seek, start)
            while count > 0 and (piece := await asyncio.to_thread(file.read, min(count, _PIECE_BYTES))):
                count -= len(piece)
                yield piece
        if count > 0:
            raise Unavailable(f"{uri} has become shorter while it was read")

    async def head(self, uri: str) -> ObjectInfo | None:
        """Return size and etag of the object, None when it does not exist. Raise UnreadableObject or Unavailable."""
        if self._local_files:
            try:
                return ObjectInfo(await asyncio.to_thread(self._local_files.size, self.path(uri)), "")
            except NotFound:
                return None
        located = await self._locate(uri)
        try:
            meta = await obstore.head_async(located.store, located.path)
        except FileNotFoundError:
            await self._check_bucket(located)
            return None
        except (BaseError, OSError) as error:
            raise read_error(uri, error, own=located.own) from error
        return ObjectInfo(meta["size"], (meta["e_tag"] or "").strip('"'))

    async def _check_bucket(self, missing: _Located) -> None:
        """Raise Unavailable when there is no bucket; for that and for a missing object stores raise the same error.

        Only the own one is looked for: without it the store is down. Any other need not be there.
        """
        if not missing.own:
            return
        try:
            async for _ in obstore.list(missing.store, prefix=missing.path):
                break
        except (BaseError, OSError) as error:
            if _FORBIDDEN not in str(error):  # then it may not be listed
                raise Unavailable(f"the object store does not answer for {self._base}") from error

    async def head_or_none(self, uri: str) -> ObjectInfo | None:
        """Return what `head` returns; None, logged and counted, for an object that is permanently lost (see `find`)."""
        try:
            info = await self.head(uri)
        except (UnreadableObject, InvalidArgument) as error:
            report_lost_object(uri, error)
            return None
        if info is None:
            report_lost_object(uri, NotFound("object not found"))
        return info

    async def check_writable_path(self, uri: str) -> None:
        """Check that a file:// store can have a file at `uri`.

        Raises:
            FailedPrecondition: a folder is at `uri`, or a file where `uri` needs a folder.
            Unavailable: the store is not there.
        """
        path = self.path(uri)
        if self._local_files:
            await asyncio.to_thread(self._local_files.check_writable_path, path)

    async def md5(self, uri: str) -> bytes | None:
        """Return the MD5 digest of an object of a file:// store; None for other stores. Raise NotFound, Unavailable."""
        return await asyncio.to_thread(self._local_files.md5, self.path(uri)) if self._local_files else None

    async def upload(self) -> Upload:
        """Begin an upload to a file:// store. Raise Unavailable."""
        return await asyncio.to_thread(self._require_local_files().upload)

    async def publish(self, upload: Upload, path: str, expected_md5: bytes) -> None:
        """Publish an upload; large ones take turns. Raise as `Upload.publish` does."""
        if upload.size <= _MOST_QUICK_BYTES:
            await asyncio.to_thread(upload.publish, path, expected_md5)
            return
        async with self._large_uploads.slot(path):
            await asyncio.to_thread(upload.publish, path, expected_md5)

    async def delete(self, uris: Iterable[str]) -> None:
        """Delete existing objects. Raise Unavailable."""
        try:
            await obstore.delete_async(self._store, [self.path(uri) for uri in uris])
        except (BaseError, OSError) as error:
            raise Unavailable("the object store does not delete") from error

    async def delete_older(self, folder: Sequence[str], before: datetime) -> int:
        """Delete the objects below `folder` that were written before `before`; return how many. Raise Unavailable."""
        deleted = 0
        if self._local_files:  # a folder that is not there would count as empty
            await asyncio.to_thread(self._local_files.check_present)
        try:
            async for chunk in obstore.list(self._store, prefix="/".join(folder)):
                old = [meta["path"] for meta in chunk if meta["last_modified"] < before]
                if old:
                    await obstore.delete_async(self._store, old)
                    deleted += len(old)
        except (BaseError, OSError) as error:
            raise Unavailable(f"the object store does not delete below {'/'.join(folder)}") from error
        return deleted

    async def check_writes(self) -> None:
        """Raise Unavailable unless a file:// store accepts writes now; other stores are not checked."""
        if self._local_files:
            try:
                await asyncio.to_thread(self._put_file, self._local_files, _TRIAL_OBJECT, _TRIAL_BYTES)
                await obstore.delete_async(self._store, _TRIAL_OBJECT)
            except FileNotFoundError:
                return  # a replica has deleted it
            except (BaseError, OSError) as error:
                raise Unavailable("the object store takes no objects") from error

    async def sign_get(self, uri: str, expires: timedelta) -> str:
        """Return a URL from which any client can download the object until it expires.

        Raises:
            InvalidArgument: the object is in no bucket that may be read.
            Unavailable: the store does not sign.
        """
        if self.local:
            return self.urls.sign("GET", self.path(uri), expires, b"")
        return await self._sign_by_store("GET", await self._locate(uri), expires)

    async def sign_put(self, uri: str, expires: timedelta, content_md5: bytes | None) -> SignedPut:
        """Return a URL to which any client can upload the object until it expires.

        On a file:// store an upload must have the digest `content_md5` (16 bytes, None for any) and never replaces
        another object. Other stores check the Content-MD5 header that clients send; their signature covers neither the
        header nor a condition (docs/decisions/0019-uploads-are-written-once.md).
        """
        path = self.path(uri)
        if not self.local:
            url = await self._sign_by_store("PUT", _Located(self._store, path, own=True), expires)
            return SignedPut(url, _AZURE_UPLOAD if isinstance(self._store, AzureStore) else {})
        headers = {"Content-MD5": base64.b64encode(content_md5).decode()} if content_md5 else {}
        return SignedPut(self.urls.sign("PUT", path, expires, content_md5 or b""), headers)

    async def _sign_by_store(self, verb: Verb, signed: _Located, expires: timedelta) -> str:
        try:
            return await obstore.sign_async(signed.store, verb, signed.path, expires)
        except (BaseError, OSError) as error:  # some stores sign by a request to their server
            raise Unavailable(f"the object store does not sign {signed.path}") from error

    def _require_local_files(self) -> LocalFiles:
        if self._local_files is None:
            raise TypeError("only a file:// store is served here")
        return self._local_files


def report_lost_object(uri: str, error: Exception) -> None:
    """Log and count an object that a reply needs and that is permanently lost."""
    reason = "Unreadable" if isinstance(error, UnreadableObject) else type(error).__name__
    OBJECTS_LOST.labels(reason).inc()
    log.warning("an object is lost", extra={"uri": uri, "cause": str(error)})
