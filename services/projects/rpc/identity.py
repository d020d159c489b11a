"""IdentityService: who the caller is (gateway.md#authentication)."""

from collections.abc import Mapping
from typing import Any

from flyteidl.service.identity_pb2 import UserInfoRequest, UserInfoResponse

from services.kit.rpc.table import Call

# Claims of OpenID Connect that have a field of their own.
_FIELDS = ("name", "preferred_username", "given_name", "family_name", "email", "picture")


class IdentityHandlers:
    """The RPC about the caller."""

    async def UserInfo(self, _request: UserInfoRequest, call: Call) -> UserInfoResponse:
        """Return what the caller's token says about it; cannot fail."""
        claims: Mapping[str, Any] = call.caller.claims
        shown = {name: claims[name] for name in _FIELDS if isinstance(claims.get(name), str)}
        response = UserInfoResponse(subject=call.caller.subject, **shown)
        if others := {name: value for name, value in claims.items() if name not in shown}:
            response.additional_claims.update(others)
        return response
