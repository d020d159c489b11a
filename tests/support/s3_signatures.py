"""Checks of S3 requests that moto leaves out, as WSGI middleware: signatures, their expiry, regions, digests, refusals.

The signature of a request is computed a second time, by botocore.
"""

import hashlib
from base64 import b64decode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
VIRTUAL_HOST = ".s3.test"
"""What follows the bucket in the name of a virtual host."""
_DATE = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class Refusal:
    """A response of S3 with an error."""

    status: str
    code: str
    region: str = ""

    def respond(self, start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = f"<Error><Code>{self.code}</Code><Message>refused</Message></Error>".encode()
        region = [("x-amz-bucket-region", self.region)] if self.region else []
        start_response(self.status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body))), *region])
        return [body]


@dataclass(frozen=True)
class _Signed:
    """What a request says about its signature: in its query or in its header Authorization."""

    access_key: str
    region: str
    signed_headers: list[str]
    signature: str
    date: str
    token: str | None
    expires: int | None
    """Seconds after `date`; None for a header, which is good for minutes."""


class SignedRequests:
    """Passes on to `app` what is signed well; answers the rest as S3 does.

    Args:
        app: the server of objects.
        secret_of: returns the secret of an access key, and the session token that belongs to it; None for no such key.
        region_of: returns the region of a bucket; None for no such bucket.
        denied: a bucket that may not be read.
    """

    def __init__(
        self,
        app: App,
        secret_of: Callable[[str], tuple[str, str | None] | None],
        region_of: Callable[[str], str | None],
        denied: str,
    ) -> None:
        self._app = app
        self._secret_of = secret_of
        self._region_of = region_of
        self._denied = denied

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        refusal = self._refusal(environ)
        return refusal.respond(start_response) if refusal else self._app(environ, start_response)

    def _refusal(self, environ: dict[str, Any]) -> Refusal | None:
        target = _target(environ)
        signed = _signed(environ, target)
        if signed is None:
            return Refusal("403 Forbidden", "AccessDenied")
        secret = self._secret_of(signed.access_key)
        if secret is None or secret[1] != signed.token:
            return Refusal("403 Forbidden", "InvalidAccessKeyId")
        signed_at = datetime.strptime(signed.date, _DATE).replace(tzinfo=UTC)
        if signed.expires is not None and datetime.now(UTC) > signed_at + timedelta(seconds=signed.expires):
            return Refusal("403 Forbidden", "AccessDenied")
        if _signature(environ, target, signed, secret[0]) != signed.signature:
            return Refusal("403 Forbidden", "SignatureDoesNotMatch")
        bucket = _bucket(target)
        region = self._region_of(bucket)
        if region is not None and region != signed.region:
            return Refusal("301 Moved Permanently", "PermanentRedirect", region)  # without Location, as S3
        if bucket == self._denied and environ["REQUEST_METHOD"] in {"GET", "HEAD"}:
            return Refusal("403 Forbidden", "AccessDenied")
        return None if _has_its_digest(environ) else Refusal("400 Bad Request", "BadDigest")


def _has_its_digest(environ: dict[str, Any]) -> bool:
    if "HTTP_CONTENT_MD5" not in environ:
        return True
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    environ["wsgi.input"] = BytesIO(body)
    return hashlib.md5(body, usedforsecurity=False).digest() == b64decode(environ["HTTP_CONTENT_MD5"])


def _target(environ: dict[str, Any]) -> SplitResult:
    """Return the URL of a request as it was sent; to a proxy a client sends the whole URL."""
    raw = environ["RAW_URI"]
    scheme = environ["wsgi.url_scheme"]
    return urlsplit(raw if raw.startswith("http://") else f"{scheme}://{environ['HTTP_HOST']}{raw}")


def _bucket(target: SplitResult) -> str:
    host = target.hostname or ""
    virtual = host.endswith(VIRTUAL_HOST)
    return host.removesuffix(VIRTUAL_HOST) if virtual else target.path.split("/")[1]


def _signed(environ: dict[str, Any], target: SplitResult) -> _Signed | None:
    query = {name: values[0] for name, values in parse_qs(target.query, keep_blank_values=True).items()}
    if "X-Amz-Signature" in query:
        scope = query["X-Amz-Credential"].split("/")
        return _Signed(
            scope[0],
            scope[2],
            query["X-Amz-SignedHeaders"].split(";"),
            query["X-Amz-Signature"],
            query["X-Amz-Date"],
            query.get("X-Amz-Security-Token"),
            int(query["X-Amz-Expires"]),
        )
    algorithm, _, rest = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if algorithm != "AWS4-HMAC-SHA256":
        return None
    parts = dict(part.strip().split("=", 1) for part in rest.split(","))
    scope = parts["Credential"].split("/")
    date, token = environ["HTTP_X_AMZ_DATE"], environ.get("HTTP_X_AMZ_SECURITY_TOKEN")
    return _Signed(scope[0], scope[2], parts["SignedHeaders"].split(";"), parts["Signature"], date, token, None)


def _signature(environ: dict[str, Any], target: SplitResult, signed: _Signed, secret: str) -> str:
    """Return the signature that a request must have."""
    query = "&".join(part for part in target.query.split("&") if not part.startswith("X-Amz-Signature="))
    url = target._replace(query=query, fragment="").geturl()
    headers = {name: _header(environ, name) for name in signed.signed_headers}
    request = AWSRequest(method=environ["REQUEST_METHOD"], url=url, headers=headers)
    request.context["timestamp"] = signed.date
    credentials = Credentials(signed.access_key, secret)
    if signed.expires is None:
        auth = S3SigV4Auth(credentials, "s3", signed.region)
    else:
        auth = S3SigV4QueryAuth(credentials, "s3", signed.region, signed.expires)
    return str(auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request))


def _header(environ: dict[str, Any], name: str) -> str:
    key = name.upper().replace("-", "_")
    return str(environ.get(key) or "") if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else str(environ[f"HTTP_{key}"])
