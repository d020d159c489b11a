"""Tokens that must be refused, each with one thing wrong."""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Any

from tests.support.oidc.keys import new_key
from tests.support.oidc.provider import Provider
from tests.support.oidc.tokens import lifetime, signed, signed_by_hand, signing_input

_LONG = 3600


def _with(**claims: Any) -> Callable[[Provider], str]:
    return lambda provider: provider.token(claims=claims)


def _unsigned(provider: Provider) -> str:
    head, payload, _ = provider.token().split(".")
    return f"{head}.{payload}."


def _algorithm_none(provider: Provider) -> str:
    return signed_by_hand({"alg": "none", "typ": "JWT"}, provider.claims(), b"")


def _signed_with_public_key(provider: Provider) -> str:
    """Return a token whose HMAC has the published key as its secret, which it would be if `alg` chose the method."""
    header = {"alg": "HS256", "typ": "JWT", "kid": provider.keys.signing.kid}
    claims = provider.claims()
    secret = provider.keys.signing.as_pem(private=False)
    signature = hmac.new(secret, signing_input(header, claims).encode(), hashlib.sha256).digest()
    return signed_by_hand(header, claims, signature)


def _swapped_key(provider: Provider) -> str:
    return signed(provider.claims(), new_key("other"), key_id=provider.keys.signing.kid)


def _unknown_key(provider: Provider) -> str:
    return signed(provider.claims(), new_key("unknown"))


def _changed_claims(provider: Provider) -> str:
    head, _, signature = provider.token().split(".")
    payload = signing_input({}, provider.claims("mallory")).split(".")[1]
    return f"{head}.{payload}.{signature}"


def _cut(provider: Provider) -> str:
    return provider.token()[:-20]


WRONG_TOKENS: Mapping[str, Callable[[Provider], str]] = {
    "other issuer": _with(iss="https://login.example"),
    "no issuer": _with(iss=None),
    "other audience": _with(aud="https://other.example"),
    "no audience": _with(aud=None),
    "token of another client": _with(aud="other-client", azp="other-client", client_id="other-client"),
    "expired": lambda provider: provider.token(expires_in=-_LONG),
    "without expiry": _with(exp=None),
    "not yet valid": _with(**lifetime(2 * _LONG, not_before=_LONG)),
    "unsigned": _unsigned,
    "alg none": _algorithm_none,
    "HS256 with the public key": _signed_with_public_key,
    "swapped key": _swapped_key,
    "unknown key": _unknown_key,
    "changed claims": _changed_claims,
    "cut": _cut,
    "no token": lambda _: "garbage",
}
"""By what is wrong: makes the token."""
