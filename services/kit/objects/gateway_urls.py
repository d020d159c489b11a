"""Signed URLs of the gateway, for uploads to and downloads from a file:// store."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import quote, urlencode

from services.kit.errors import PermissionDenied

# The gateway's path for uploads and downloads.
OBJECTS_PATH = "/objects/"

Verb = Literal["GET", "PUT"]


class GatewayUrls:
    """Signs URLs with an HMAC, and checks them.

    Args:
        public_url: URL of the gateway.
        key: key of the signatures.
    """

    def __init__(self, public_url: str, key: bytes) -> None:
        self._public_url = public_url.rstrip("/")
        self._key = key

    def sign(self, verb: Verb, path: str, expires: timedelta, md5: bytes) -> str:
        """Return the URL of an object; an upload must have the digest `md5`, empty for any."""
        end = int((datetime.now(UTC) + expires).timestamp())
        query = {"expires": str(end), "md5": md5.hex()}
        query["signature"] = self._signature(verb, path, query)
        return f"{self._public_url}{OBJECTS_PATH}{quote(path)}?{urlencode(query)}"

    def check(self, verb: Verb, path: str, query: Mapping[str, str]) -> None:
        """Raise PermissionDenied unless `query` has a valid, unexpired signature for `verb` on `path`."""
        expected = self._signature(verb, path, query)
        if not hmac.compare_digest(expected.encode(), query.get("signature", "").encode(errors="replace")):
            raise PermissionDenied("the signature does not fit the request")
        if int(query["expires"]) < datetime.now(UTC).timestamp():
            raise PermissionDenied("the signed URL has expired")

    def _signature(self, verb: Verb, path: str, query: Mapping[str, str]) -> str:
        # As JSON, which is unambiguous: a path may contain any separator.
        payload = json.dumps([verb, path, query.get("expires", ""), query.get("md5", "")])
        return hmac.new(self._key, payload.encode(), hashlib.sha256).hexdigest()
