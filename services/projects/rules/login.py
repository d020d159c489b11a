"""What a login of a browser keeps without a store: its state, nonce and verifier, and where it goes afterwards.

Everything follows from a secret in a cookie of the browser and from `state`, which the provider sends back. So a
browser can have several logins at once, any replica can end one, and no request makes a service store anything.
"""

import binascii
import json
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from hmac import digest as hmac_digest

from services.kit.errors import InvalidArgument, PermissionDenied

LOGIN_SECONDS = 600
"""How long a login may take: as long as providers keep their form open, about."""

DEFAULT_TARGET = "/me"
"""Where a browser goes that did not say it."""

# A longer one does not fit into the address of the provider together with everything else: some servers take 2 KB.
_MOST_TARGET = 1024
_SECRET_BYTES = 32
# The clocks of two replicas may differ by this.
_CLOCK_SECONDS = 60
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
# Browsers drop tabs and line ends from URLs, and read a backslash as a slash: /\t/host and /\host are other hosts.
_TARGET = re.compile(r"[!-\[\]-~]+")


@dataclass(frozen=True)
class PendingLogin:
    """A login under way.

    Attributes:
        state: names it, and comes back from the provider.
        nonce: is to be in its ID token.
        verifier: proves to the provider that the code comes from where the login began (PKCE).
        target: where the browser goes afterwards.
    """

    state: str
    nonce: str
    verifier: str
    target: str

    @property
    def challenge(self) -> str:
        """The digest of the verifier, which the provider gets first (RFC 7636, S256)."""
        return _encoded(sha256(self.verifier.encode()).digest())


def new_secret() -> str:
    """Return a secret for a browser."""
    return _encoded(secrets.token_bytes(_SECRET_BYTES))


def is_secret(text: str) -> bool:
    """Return whether a cookie has the form of a secret."""
    return bool(_SECRET.fullmatch(text))


def begin(secret: str, target: str, now: float) -> PendingLogin:
    """Return a new login of the browser with this secret, `now` in seconds since 1970."""
    content = json.dumps([secrets.token_urlsafe(12), int(now), target], separators=(",", ":")).encode()
    return _pending(secret, content, target)


def resume(secret: str, state: str, now: float) -> PendingLogin:
    """Return the login of this browser that `state` names.

    Raises:
        PermissionDenied: there is none, as it began in another browser or too long ago.
    """
    encoded, _, mark = state.partition(".")
    try:
        content = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except (binascii.Error, ValueError):
        content = b""
    if not is_secret(secret) or not compare_digest(mark.encode(), _derived(secret, "state", content).encode()):
        raise PermissionDenied("the login did not begin in this browser")
    # Only this process's kind has made it, so its form needs no check.
    _, began, target = json.loads(content)
    if not -_CLOCK_SECONDS <= now - began <= LOGIN_SECONDS:
        raise PermissionDenied(f"the login took more than {LOGIN_SECONDS // 60} minutes")
    return _pending(secret, content, target)


def _pending(secret: str, content: bytes, target: str) -> PendingLogin:
    return PendingLogin(
        state=f"{_encoded(content)}.{_derived(secret, 'state', content)}",
        nonce=_derived(secret, "nonce", content),
        verifier=_derived(secret, "verifier", content),
        target=target,
    )


def _derived(secret: str, purpose: str, content: bytes) -> str:
    return _encoded(hmac_digest(secret.encode(), purpose.encode() + b"\0" + content, "sha256"))


def _encoded(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def checked_target(text: str, origins: Iterable[str]) -> str:
    """Return where a browser may go: a path of the gateway, or a URL below one of `origins`.

    Raises:
        InvalidArgument: it is neither.
    """
    if not text:
        return DEFAULT_TARGET
    if len(text) <= _MOST_TARGET and _TARGET.fullmatch(text):
        if text[0] == "/" and text[1:2] != "/":
            return text
        # The character after an origin ends it: https://flyte.example.evil and https://flyte.example@evil are others.
        if any(text.startswith(origin) and text[len(origin) :][:1] in {"", "/", "?", "#"} for origin in origins):
            return text
    raise InvalidArgument("the redirect_url is neither a path of this gateway nor a URL of an origin that is listed")
