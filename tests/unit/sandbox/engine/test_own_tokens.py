"""The engine's own tokens: what they contain, and how long they are used."""

import json
from base64 import urlsafe_b64decode
from typing import Any

import grpc

from deploy.sandbox.engine import own_tokens
from deploy.sandbox.engine.own_tokens import OwnTokens, signed
from gateway import authentication

KEY = "the-key-of-the-engine"


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def test_a_token_is_what_the_gateway_expects() -> None:
    claims = claims_of(signed(KEY, 1000.5))
    assert (claims["iss"], claims["aud"]) == (authentication.ENGINE_ISSUER, authentication.ENGINE_AUDIENCE)
    assert (claims["sub"], claims["iat"], claims["exp"]) == ("engine", 1000, 4600)


async def test_every_call_has_a_token_that_is_renewed_in_time() -> None:
    times = iter((10_000.0, 11_000.0, 12_000.0, 11_000.0))  # the last: the clock was set back
    seen = []

    async def call(details: grpc.aio.ClientCallDetails, request: Any) -> Any:
        assert request == "request"
        seen.append(dict(details.metadata or ()))
        return "response"

    tokens = OwnTokens(KEY, clock=lambda: next(times))
    details = grpc.aio.ClientCallDetails("m", 5.0, grpc.aio.Metadata(("a", "b")), None, None)
    for _ in range(4):
        assert await tokens.intercept_unary_unary(call, details, "request") == "response"
    assert all(metadata["a"] == "b" for metadata in seen)
    expiries = [claims_of(metadata["authorization"].removeprefix("Bearer "))["exp"] for metadata in seen]
    assert expiries == [13_600, 13_600, 15_600, 14_600]
    assert own_tokens._TOKEN_SECONDS == 3600
