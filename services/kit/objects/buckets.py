"""Which buckets are read, and how they are reached; no I/O. An Azure container is a bucket here, too."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import parse_qs

from services.kit.errors import InvalidArgument

S3, GOOGLE, AZURE = "s3", "gs", "az"
# Schemes of one provider name the same objects: engines, flytekit and Hadoop each have their own for Azure.
PROVIDERS: Mapping[str, str] = {
    "s3": S3,
    "s3a": S3,
    "gs": GOOGLE,
    **dict.fromkeys(("az", "azure", "abfs", "abfss", "adl"), AZURE),
}
# The characters of names of buckets, containers and accounts. Others could change the host of a request: with virtual
# hosts the name is a part of it.
_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._-]*")


class ObjectUri(NamedTuple):
    """The URI of an object or, with an empty key, of a bucket."""

    provider: str
    account: str
    """The storage account of an Azure container; empty where the URI names none."""
    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Parse `scheme://bucket/key`, of Azure also `scheme://container@account.host/key`.

        A key is taken as it is, without percent-encoding, query or fragment, as Flyte's programs do.

        Raises:
            InvalidArgument: the scheme is none of PROVIDERS, or the bucket cannot have this name.
        """
        scheme, separator, rest = uri.partition("://")
        provider = PROVIDERS.get(scheme)
        if not separator or provider is None:
            raise InvalidArgument(f"invalid uri: {uri} is not an object of S3, Google Cloud Storage or Azure")
        authority, _, key = rest.partition("/")
        bucket, at, host = authority.partition("@")
        account = host.partition(".")[0]
        if not _NAME.fullmatch(bucket) or (at and (provider != AZURE or not _NAME.fullmatch(host))):
            raise InvalidArgument(f"invalid uri: {uri} has no name of a bucket")
        return cls(provider, account, bucket, key)


@dataclass(frozen=True)
class AllowedBucket:
    """Buckets whose objects are read: one, or all whose name matches a pattern; whole, or below a prefix."""

    provider: str
    account: str
    name: str
    """A name, in which `*` stands for any characters."""
    prefix: str = ""
    region: str = ""
    """The region of S3 that the buckets are in; empty for that of the store."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `s3://bucket`, `s3://team-*/prefix` or `s3://bucket?region=eu-west-1`; raise ValueError."""
        url, _, query = text.partition("?")
        options = parse_qs(query, keep_blank_values=True)
        regions = options.pop("region", [""])
        try:
            # A pattern is a name with letters for what may be anything.
            uri = ObjectUri.parse(url.replace("*", "x"))
        except InvalidArgument as error:
            raise ValueError(f"{text} is not the URL of a bucket, such as s3://bucket or s3://team-*/prefix") from error
        if options or len(regions) > 1 or (regions != [""] and uri.provider != S3):
            raise ValueError(f"{text}: only a region of S3 may follow, as in s3://bucket?region=eu-west-1")
        authority, _, prefix = url.partition("://")[2].partition("/")
        if "*" in prefix:
            raise ValueError(f"{text}: only the name of a bucket may have a *, its objects are named by a prefix")
        return cls(uri.provider, uri.account, authority.partition("@")[0], prefix.strip("/"), regions[0])

    def admits(self, uri: ObjectUri) -> bool:
        """Return whether the object may be read."""
        if (uri.provider, uri.account) != (self.provider, self.account):
            return False
        if not re.fullmatch(".*".join(map(re.escape, self.name.split("*"))), uri.bucket):
            return False
        return not self.prefix or uri.key.startswith(f"{self.prefix}/")


@dataclass(frozen=True)
class BucketAccess:
    """How the buckets of one provider are reached, and which are read in addition to the store itself."""

    allowed: tuple[AllowedBucket, ...] = ()
    endpoint: str = ""
    """URL of the provider's API; empty for the provider's own."""
    region: str = ""
    """Region of S3; empty for that of the environment."""
    path_style: bool = True
    """Whether the bucket is in the path of an S3 request, and not in its host."""
    account: str = ""
    """Storage account of Azure."""
    ca_file: Path | None = None
    """PEM certificates of authorities, in addition to the system's."""

    def located(self, uri: str) -> ObjectUri:
        """Parse a URI; one of Azure that names no account gets the own one. Raise InvalidArgument."""
        parsed = ObjectUri.parse(uri)
        return parsed._replace(account=parsed.account or self.account) if parsed.provider == AZURE else parsed

    def with_bucket_of(self, uri: str) -> Self:
        """Allow the whole bucket of `uri`, too; a `uri` that is none of a bucket changes nothing."""
        try:
            named = self.located(uri)
        except InvalidArgument:
            return self
        return replace(self, allowed=(*self.allowed, AllowedBucket(named.provider, named.account, named.bucket)))

    def with_buckets(self, texts: tuple[str, ...]) -> Self:
        """Allow buckets, too, each as `AllowedBucket.parse` reads it; raise ValueError."""
        parsed = [AllowedBucket.parse(text) for text in texts]
        accounts = {AZURE: self.account}
        located = (replace(each, account=each.account or accounts.get(each.provider, "")) for each in parsed)
        return replace(self, allowed=(*self.allowed, *located))

    def entry(self, uri: ObjectUri) -> AllowedBucket | None:
        """Return the first entry that admits the object, None when it may not be read."""
        return next((each for each in self.allowed if each.admits(uri)), None)
