"""Stores of the providers: Amazon S3 and servers like it, Google Cloud Storage, Azure Blob Storage.

Credentials come from the environment, as obstore reads it: keys, or what a cloud puts into the environment of a pod
that has a role or a workload identity.
"""

import asyncio
import re
from typing import Any
from urllib.parse import urlsplit

from cachetools import LRUCache
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, S3Store

from services.kit.errors import InvalidArgument, Unavailable
from services.kit.objects.buckets import AZURE, GOOGLE, BucketAccess, ObjectUri
from services.kit.objects.errors import UnreadableObject
from services.kit.objects.paths import check_path

RemoteStore = S3Store | GCSStore | AzureStore

# Buckets that stay open: each has connections of its own. Where a pattern allows buckets, a client may name any number.
_OPEN_BUCKETS = 64
# In obstore's errors: the status of a response that would be the same again. A request that took too long (408) or came
# too often (429) is none.
_REFUSED = re.compile(r"status code: 4(?!08|29)\d\d|redirect without LOCATION")


class OtherBuckets:
    """The buckets that may be read in addition to the store's own objects; opened when they are first read."""

    def __init__(self, own: ObjectUri, access: BucketAccess) -> None:
        self._provider = own.provider
        self._access = access
        self._stores: LRUCache[tuple[str, str], RemoteStore] = LRUCache(_OPEN_BUCKETS)
        self._opening = asyncio.Lock()

    async def locate(self, uri: str) -> tuple[RemoteStore, str]:
        """Return the store of an object's bucket, and the object's key in it.

        Raises:
            InvalidArgument: the object is in no bucket that may be read.
            UnreadableObject: the bucket cannot be opened.
        """
        parsed = self._access.located(uri)
        entry = self._access.entry(parsed)
        if parsed.provider != self._provider or entry is None:
            raise InvalidArgument(f"invalid uri: {uri} is in no bucket that this control plane may read")
        check_path(parsed.key, uri)
        name = (parsed.account, parsed.bucket)
        async with self._opening:
            store = self._stores.get(name)
            if store is None:
                try:
                    # It reads certificates, which takes milliseconds.
                    store = await asyncio.to_thread(open_bucket, self._access, parsed, region=entry.region)
                except (BaseError, OSError, ValueError) as error:
                    raise UnreadableObject(f"the bucket of {uri} cannot be opened: {error}") from error
                self._stores[name] = store
        return store, parsed.key


def open_bucket(access: BucketAccess, bucket: ObjectUri, *, region: str = "", prefix: str = "") -> RemoteStore:
    """Open a bucket; nothing is sent to its provider yet.

    Args:
        access: how it is reached.
        bucket: its URI; the key does not matter.
        region: its region when it is another one than that of `access`.
        prefix: of all keys that the store is given.

    Raises:
        BaseError: the environment or `access` has not what the provider needs, or contradicts itself.
    """
    options: dict[str, Any] = {"config": _config(access, bucket, region), "prefix": prefix or None}
    if access.ca_file:
        # obstore takes certificates in this way only.
        certificates = access.ca_file.read_bytes()
        options["client_options"] = {"root_certificate": certificates, "allow_http": _plain_http(access)}
    if bucket.provider == GOOGLE:
        return GCSStore(bucket.bucket, **options)
    if bucket.provider == AZURE:
        return AzureStore(bucket.bucket, **options)
    return S3Store(bucket.bucket, **options)


def _plain_http(access: BucketAccess) -> bool:
    return access.endpoint.startswith("http://")


def _config(access: BucketAccess, bucket: ObjectUri, region: str) -> dict[str, str]:
    """Return what is said to obstore in addition to the environment; a setting has priority."""
    # Not as a client option: these would replace those of the environment, such as a proxy.
    config = {"allow_http": "true"} if _plain_http(access) else {}
    if bucket.provider == GOOGLE:
        return config | ({"base_url": access.endpoint} if access.endpoint else {})
    if access.endpoint:
        config["endpoint"] = access.endpoint
    if bucket.provider == AZURE:
        return config | ({"account_name": bucket.account} if bucket.account else {})
    if region or access.region:
        config["region"] = region or access.region
    if not access.path_style:
        config["virtual_hosted_style_request"] = "true"
    if access.endpoint and not access.path_style:
        # obstore takes the endpoint as the host of all requests, so the bucket has to be in it.
        host = urlsplit(access.endpoint)
        config["endpoint"] = host._replace(netloc=f"{bucket.bucket}.{host.netloc}").geturl()
    return config


def read_error(uri: str, error: Exception, *, own: bool) -> Unavailable:
    """Return the error of an object that could not be read.

    Args:
        uri: the object.
        error: obstore's.
        own: whether the object is in the store itself. There a refusal shows that the store is not set up, which an
            operator repairs. Any other bucket may be refused permanently, such as one in another region.
    """
    # Amazon S3 returns this for a missing object when the bucket may not be listed.
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or (not own and _REFUSED.search(str(error))):
        return UnreadableObject(f"the object store does not give {uri}")
    return Unavailable(f"the object store does not answer for {uri}")
