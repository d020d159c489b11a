"""Tokens of the engine, where callers log in: it signs them itself with a key that only it and the gateway have.

The engine is part of the sandbox and has no client at the OpenID provider (docs/decisions/0035-who-calls.md).
"""

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import grpc

# As in gateway/authentication.py.
ISSUER = "flyteplane-engine"
AUDIENCE = "flyteplane"
SUBJECT = "engine"

# A token is used for half of its time.
_TOKEN_SECONDS = 3600
_HEADER = {"alg": "HS256", "typ": "JWT"}


def signed(key: str, now: float) -> str:
    """Return a token of the engine that is valid from now on (RFC 7519)."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": SUBJECT,
        "azp": ISSUER,
        "iat": int(now),
        "exp": int(now) + _TOKEN_SECONDS,
    }
    content = f"{_encoded(json.dumps(_HEADER).encode())}.{_encoded(json.dumps(claims).encode())}"
    return f"{content}.{_encoded(hmac.digest(key.encode(), content.encode(), hashlib.sha256))}"


def _encoded(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


class OwnTokens(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Adds a token to every call of a channel."""

    def __init__(self, key: str, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._clock = clock
        self._token = ""
        self._renewed_at = 0.0

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        """Make the call with the token."""
        details = client_call_details
        metadata = grpc.aio.Metadata(*(details.metadata or ()), ("authorization", f"Bearer {self._current()}"))
        return await continuation(details._replace(metadata=metadata), request)

    def _current(self) -> str:
        now = self._clock()
        if not 0 <= now - self._renewed_at < _TOKEN_SECONDS / 2:
            self._token, self._renewed_at = signed(self._key, now), now
        return self._token
