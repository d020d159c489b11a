"""Who calls: the claims of a caller's token, which the gateway has validated, and the proof that the gateway sent them.

The gateway removes both headers from what clients send and adds its own, so they mean something only on calls that have
the gateway's secret (docs/decisions/0035-who-calls.md).
"""

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hmac import compare_digest
from types import MappingProxyType

from services.kit.errors import Unauthenticated

CLAIMS_HEADER = "x-flyteplane-claims"
"""The header with the claims of a valid token: its payload as it was signed, JSON in base64url."""

GATEWAY_HEADER = "x-flyteplane-gateway"
"""The header with the secret of the gateway and the services."""

SUBJECT_CLAIMS = ("sub",)
# What Keycloak, Auth0 and Google; RFC 9068; and Okta call the client that a token was issued to.
CLIENT_CLAIMS = ("azp", "client_id", "cid")

# Tokens whose claims are kept. Clients renew tokens about every hour, and each one is read once in this time.
_MOST_CALLERS = 1024
# As OpenID Connect limits `sub`. Names are stored and indexed.
_MOST_NAME_CHARACTERS = 255


@dataclass(frozen=True)
class Caller:
    """The identity of a caller.

    Attributes:
        subject: the person or program, "" when it is unknown.
        client: the OAuth client that the token was issued to, "" when the token does not say it.
        claims: all claims of the token.
    """

    subject: str = ""
    client: str = ""
    claims: Mapping[str, object] = field(default_factory=dict, repr=False)


ANONYMOUS = Caller()
"""A caller without a token, or of a service that accepts any caller."""


class Callers:
    """Recognizes the gateway, and reads the callers that it names.

    Args:
        gateway_secret: the secret of the gateway and the services; not empty.
        subject_claims: claims that name the subject: the first that a token has counts, without any its client.
        client_claims: claims that name the client, as above.
    """

    def __init__(
        self,
        gateway_secret: str,
        subject_claims: Sequence[str] = SUBJECT_CLAIMS,
        client_claims: Sequence[str] = CLIENT_CLAIMS,
    ) -> None:
        self._secret = gateway_secret.encode()

        @lru_cache(_MOST_CALLERS)
        def read(text: str) -> Caller:
            return _caller_of(text, subject_claims, client_claims)

        self._read = read

    def caller_of(self, metadata: Mapping[str, str]) -> Caller:
        """Return the caller of a call with these headers.

        Raises:
            Unauthenticated: the call does not come from the gateway, or its token names no caller.
        """
        if not compare_digest(metadata.get(GATEWAY_HEADER, "").encode(errors="replace"), self._secret):
            raise Unauthenticated("only the gateway may call this port")
        text = metadata.get(CLAIMS_HEADER)
        return self._read(text) if text else ANONYMOUS


def _caller_of(text: str, subject_claims: Sequence[str], client_claims: Sequence[str]) -> Caller:
    try:
        claims = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        json.dumps(claims, ensure_ascii=False, allow_nan=False).encode()  # what no message could hold is refused here
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise Unauthenticated("the claims of the token cannot be read")
    client = _name(claims, client_claims)
    subject = _name(claims, subject_claims) or client
    if not subject:
        raise Unauthenticated(f"the token names no caller: it has none of the claims {', '.join(subject_claims)}")
    return Caller(subject, client, MappingProxyType(claims))


def _name(claims: Mapping[str, object], names: Sequence[str]) -> str:
    """Return the first of the claims `names` that is a text, or ""."""
    for name in names:
        value = claims.get(name)
        if isinstance(value, str) and value:
            if len(value) > _MOST_NAME_CHARACTERS or not value.isprintable():
                raise Unauthenticated(
                    f"the claim {name} of the token is no name: {_MOST_NAME_CHARACTERS} printable characters at most"
                )
            return value
    return ""
