"""Tokens: their claims, and their signatures."""

import base64
import hashlib
import json
import time
from collections.abc import Collection, Mapping
from typing import Any

from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.support.oidc.keys import ALGORITHM

Claims = Mapping[str, Any]


def signed(claims: Claims, key: RSAKey, *, key_id: str | None = None) -> str:
    """Return a token with these claims that `key` has signed; `key_id` replaces the key's own."""
    header = {"alg": ALGORITHM, "typ": "JWT", "kid": key_id or key.kid}
    return jwt.encode(header, dict(claims), key, algorithms=[ALGORITHM])


def signed_by_hand(header: Mapping[str, Any], claims: Claims, signature: bytes) -> str:
    """Return a token with any header and signature, also with those that no library makes."""
    return f"{signing_input(header, claims)}.{encoded(signature)}"


def signing_input(header: Mapping[str, Any], claims: Claims) -> str:
    """Return what a signature is made of."""
    return ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))


def encoded(content: bytes) -> str:
    """Return `content` in base64url without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def claims_of(token: str) -> dict[str, Any]:
    """Return the claims of a token without a look at its signature."""
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def lifetime(expires_in: float, *, not_before: float | None = None) -> dict[str, int]:
    """Return the claims `iat`, `exp` and, if wanted, `nbf`; arguments are seconds from now."""
    now = int(time.time())
    times = {"iat": now, "exp": now + int(expires_in)}
    return times if not_before is None else times | {"nbf": now + int(not_before)}


def access_claims(
    *, issuer: str, subject: str, client_id: str, audience: str | Collection[str], scope: str, expires_in: float
) -> dict[str, Any]:
    """Return the claims of an access token (RFC 9068)."""
    return {
        "iss": issuer,
        "sub": subject,
        "aud": audience if isinstance(audience, str) else list(audience),
        "client_id": client_id,
        "azp": client_id,
        "scope": scope,
        **lifetime(expires_in),
    }


def id_claims(
    *, issuer: str, user: Claims, client_id: str, nonce: str | None, access_token: str, expires_in: float
) -> dict[str, Any]:
    """Return the claims of an ID token; `user` has `sub`."""
    digest = hashlib.sha256(access_token.encode()).digest()
    return {
        "iss": issuer,
        "aud": client_id,
        "azp": client_id,
        "at_hash": encoded(digest[: len(digest) // 2]),
        **({"nonce": nonce} if nonce else {}),
        **user,
        **lifetime(expires_in),
    }
