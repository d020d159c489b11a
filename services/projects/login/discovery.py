"""The discovery document of the OpenID provider: where callers log in.

It is fetched when it is needed first, so a provider that is unavailable stops no start.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from time import monotonic

import aiohttp
from pydantic import BaseModel, ValidationError

from services.kit.errors import FailedPrecondition, ServiceError, Unavailable

log = logging.getLogger(__name__)

DOCUMENT = "/.well-known/openid-configuration"
# Endpoints of a provider hardly ever change.
_KEPT_SECONDS = 600.0
# After a failure; meanwhile the last document is used.
_RETRY_SECONDS = 2.0
_FETCH_SECONDS = 5.0
_MOST_BYTES = 1024 * 1024


class ProviderMetadata(BaseModel):
    """The members of the document that clients or services need (OpenID Connect Discovery 1.0, RFC 8414)."""

    issuer: str
    token_endpoint: str
    jwks_uri: str
    authorization_endpoint: str = ""
    device_authorization_endpoint: str = ""
    userinfo_endpoint: str = ""
    revocation_endpoint: str = ""
    end_session_endpoint: str = ""
    response_types_supported: tuple[str, ...] = ()
    scopes_supported: tuple[str, ...] = ()
    token_endpoint_auth_methods_supported: tuple[str, ...] = ()
    code_challenge_methods_supported: tuple[str, ...] = ()
    grant_types_supported: tuple[str, ...] = ()


class Discovery:
    """Fetches and keeps the document of the provider `issuer`.

    Args:
        issuer: its URL, as in the claim `iss`.
        ca_file: certificates of the authorities of its certificate; none: the usual ones.
        clock: seconds that never go back.
    """

    def __init__(self, issuer: str, ca_file: Path | None = None, clock: Callable[[], float] = monotonic) -> None:
        verify = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=verify))
        self._issuer = issuer
        self._clock = clock
        self._fetching = asyncio.Lock()
        self._metadata: ProviderMetadata | None = None
        self._failure: ServiceError = Unavailable("the identity provider was not asked yet")
        self._next_fetch = clock()

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def metadata(self) -> ProviderMetadata:
        """Return the document; an earlier one while the provider is unavailable.

        Raises:
            Unavailable: the provider is unavailable or sends something else, and no earlier document is kept.
            FailedPrecondition: the document is that of another issuer.
        """
        if self._clock() >= self._next_fetch:
            async with self._fetching:
                if self._clock() >= self._next_fetch:
                    await self._refresh()
        if self._metadata is None:
            # A new one: the same would collect the traces of all its callers.
            raise type(self._failure)(self._failure.message)
        return self._metadata

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                self._metadata = await self._fetch()
        except FailedPrecondition as error:
            self._failure = error
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            cause = str(error).split("\n")[0] or type(error).__name__
            self._failure = Unavailable(f"the identity provider {self._issuer} is not available: {cause}")
        else:
            self._next_fetch = self._clock() + _KEPT_SECONDS
            return
        self._next_fetch = self._clock() + _RETRY_SECONDS
        log.warning("no discovery document", extra={"cause": self._failure.message})

    async def _fetch(self) -> ProviderMetadata:
        url = self._issuer.rstrip("/") + DOCUMENT
        content = b""
        async with self._session.get(url, allow_redirects=False, raise_for_status=_check_found) as response:
            async for piece in response.content.iter_any():
                content += piece
                if len(content) > _MOST_BYTES:
                    raise ValueError(f"its discovery document has more than {_MOST_BYTES} bytes")
        try:
            metadata = ProviderMetadata.model_validate_json(content)
        except ValidationError as error:
            raise ValueError(f"{url} has no discovery document: {error.error_count()} members are wrong") from error
        if metadata.issuer != self._issuer:
            raise FailedPrecondition(f"the issuer of {url} is {metadata.issuer}, not {self._issuer}")
        return metadata


async def _check_found(response: aiohttp.ClientResponse) -> None:
    """Raise ValueError unless the document is there."""
    if response.status != HTTPStatus.OK:
        raise ValueError(f"{response.url} is {response.status}")
