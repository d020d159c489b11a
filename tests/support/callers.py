"""Headers as the gateway sends them for a caller."""

import json
from base64 import urlsafe_b64encode
from typing import Any

from services.kit.rpc.callers import CLAIMS_HEADER, GATEWAY_HEADER

SECRET = "the-secret-of-the-gateway"  # noqa: S105 - of tests


def encoded(claims: Any) -> str:
    """Return claims as Envoy forwards them: base64url without padding."""
    return urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()


def sent_by_gateway(secret: str = SECRET, **claims: Any) -> dict[str, str]:
    """Return the headers of a call whose caller has these claims; without any it has no token."""
    return {GATEWAY_HEADER: secret} | ({CLAIMS_HEADER: encoded(claims)} if claims else {})
