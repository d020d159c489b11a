"""The object store of the control plane: inputs, outputs, closures and uploads, by URI.

Any store that obstore knows (`s3://`, `gs://`, `az://`, `file://`). Signed URLs come from the store itself; a `file://`
store cannot sign, so its URLs point at the gateway, carry an HMAC and are served by `object_front`.
"""

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote, urlencode, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url

from services.kit.errors import InvalidArgument, NotFound, PermissionDenied, Unavailable

# Under this path of the gateway, objects of a file:// store are uploaded and downloaded.
OBJECTS_PATH = "/objects/"
# Where the digest of a signed upload is kept beside its object in a file:// store, which has no metadata of its own.
_DIGESTS = ".content-md5"

# An object that is written to know that others could be; a block of a disk.
_TRIAL = ".trial"
_TRIAL_BYTES = b"\0" * 4096

Verb = Literal["GET", "PUT"]


@dataclass(frozen=True)
class ObjectInfo:
    """What is known of an object without reading it."""

    size: int  # bytes
    etag: str
    content_md5: bytes | None = None  # as kept at a signed upload that asked for it


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
        self.local = isinstance(store, LocalStore)

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
        if path == uri or not path or any(part in {"", ".", ".."} for part in path.split("/")):
            raise InvalidArgument(f"invalid uri: {uri} is not an object of this control plane's store")
        return path

    async def put(self, uri: str, data: bytes) -> None:
        """Write the object, over an older one. Raises Unavailable."""
        try:
            await obstore.put_async(self._store, self.path(uri), data)
        except (BaseError, OSError) as error:
            raise Unavailable(f"the object store does not take {uri}") from error

    async def put_stream(self, uri: str, chunks: AsyncIterator[bytes]) -> None:
        """Write the object as it arrives; it becomes visible when complete. Raises Unavailable."""
        try:
            await obstore.put_async(self._store, self.path(uri), chunks)
        except (BaseError, OSError) as error:
            raise Unavailable(f"the object store does not take {uri}") from error

    async def get(self, uri: str) -> bytes:
        """Read the whole object; raises NotFound, Unavailable."""
        path = self.path(uri)
        try:
            return bytes(await (await obstore.get_async(self._store, path)).bytes_async())
        except FileNotFoundError as error:
            raise NotFound(f"object not found: {uri}") from error
        except (BaseError, OSError) as error:
            raise Unavailable(f"the object store does not give {uri}") from error

    async def get_stream(self, uri: str) -> AsyncIterator[bytes]:
        """Read the object piece by piece; raises NotFound, Unavailable at the first."""
        path = self.path(uri)
        try:
            async for chunk in await obstore.get_async(self._store, path):
                yield bytes(chunk)
        except FileNotFoundError as error:
            raise NotFound(f"object not found: {uri}") from error
        except (BaseError, OSError) as error:
            raise Unavailable(f"the object store does not give {uri}") from error

    async def head(self, uri: str) -> ObjectInfo | None:
        """Size and digest of the object, or None when there is none. Raises Unavailable."""
        path = self.path(uri)
        try:
            meta = await obstore.head_async(self._store, path)
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise Unavailable(f"the object store does not answer for {uri}") from error
        return ObjectInfo(meta["size"], (meta["e_tag"] or "").strip('"'), await self._kept_md5(path))

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

    async def keep_md5(self, uri: str, digest: bytes) -> None:
        """Remember the digest of an uploaded object of a file:// store. Raises Unavailable."""
        try:
            await obstore.put_async(self._store, _digest_path(self.path(uri)), digest)
        except (BaseError, OSError) as error:
            raise Unavailable(f"the object store does not take the digest of {uri}") from error

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

    async def _kept_md5(self, path: str) -> bytes | None:
        if not self.local:
            return None
        try:
            return bytes(await (await obstore.get_async(self._store, _digest_path(path))).bytes_async())
        except FileNotFoundError:
            return None

    async def sign_get(self, uri: str, expires: timedelta) -> str:
        """A URL from which anybody can download the object until it expires."""
        path = self.path(uri)
        if self.local:
            return self._signed_here("GET", path, expires, b"", keep=False)
        return await obstore.sign_async(self._store, "GET", path, expires)

    async def sign_put(self, uri: str, expires: timedelta, content_md5: bytes | None, *, keep_md5: bool) -> SignedPut:
        """A URL to which anybody can upload the object until it expires.

        On a file:// store an upload with `content_md5` (16 bytes) must have that digest. Other stores check the
        Content-MD5 header that clients send by themselves; their signature does not cover it.
        """
        path = self.path(uri)
        if not self.local:
            return SignedPut(await obstore.sign_async(self._store, "PUT", path, expires))
        headers = {"Content-MD5": base64.b64encode(content_md5).decode()} if content_md5 else {}
        return SignedPut(self._signed_here("PUT", path, expires, content_md5 or b"", keep=keep_md5), headers)

    def _signed_here(self, verb: Verb, path: str, expires: timedelta, md5: bytes, *, keep: bool) -> str:
        end = int((datetime.now(UTC) + expires).timestamp())
        query = {"expires": str(end), "md5": md5.hex(), "keep": str(int(keep))}
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
        text = "\n".join((verb, path, query.get("expires", ""), query.get("md5", ""), query.get("keep", "")))
        return hmac.new(self._key, text.encode(errors="replace"), hashlib.sha256).hexdigest()


def _digest_path(path: str) -> str:
    return f"{_DIGESTS}/{path}"
