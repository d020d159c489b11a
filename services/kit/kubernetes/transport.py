"""HTTP requests to one API server, with credentials that may change at any time."""

import asyncio
import logging
from collections.abc import Mapping
from io import BytesIO
from time import monotonic
from typing import Any

import aiohttp
from prometheus_client import Histogram
from yarl import URL

from services.kit.errors import DeadlineExceeded, ServiceError, Unauthenticated
from services.kit.kubernetes.access import Access, ReadAccess
from services.kit.kubernetes.errors import Unreachable, to_error

log = logging.getLogger(__name__)

# How long credentials are used before their files are read again. Kubelets write a new token a fifth of its lifetime
# before the old one ends, minutes at least.
_REREAD_SECONDS = 10.0
# A server that is there accepts a connection within a round trip, also of another continent.
_CONNECT_SECONDS = 3.0
# Longer than the API server itself works on a request of one object.
_RESPONSE_SECONDS = 15.0
_MOST_CONNECTIONS = 64
_KEEPALIVE_SECONDS = 60.0
_ERROR = 400
# aiohttp warns of larger bodies in one piece.
_LARGEST_PIECE = 1024 * 1024
# aiohttp itself repeats these once if the connection ends before the response.
_REPEATED_BY_AIOHTTP = frozenset({"GET", "DELETE"})

REQUEST_SECONDS = Histogram(
    "flyteplane_kubernetes_request_seconds",
    "Time of requests to API servers; code is the HTTP status, or 0 without a response",
    ["cluster", "verb", "code"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15),
)


class _Disconnected(Unreachable):
    """The connection has ended before the response; the server may have carried the request out."""


class Transport:
    """Connections to one API server; its credentials are read again when they have changed.

    `cluster` names the server in metrics and errors.
    """

    def __init__(self, read_access: ReadAccess, cluster: str, user_agent: str) -> None:
        """Read the credentials; raises OSError and ValueError."""
        self._read_access = read_access
        self._cluster = cluster
        self._user_agent = user_agent
        self._access = read_access()
        self._read_at = monotonic()
        self._session = self._connect(self._access)
        self._rereading = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Close all connections."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await self._session.close()

    async def request(
        self,
        verb: str,
        path: str,
        *,
        parameters: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return the body of the response.

        A request that the server does not authenticate is repeated once if the credentials have changed meanwhile, and
        one whose connection ends before the response is repeated once: servers restart one after the other.

        Raises:
            ServiceError: The error that the server responded with (`errors.to_error`).
            Unreachable: The server cannot be reached.
            DeadlineExceeded: It does not respond in time; it may have carried the request out.
        """
        if monotonic() - self._read_at >= _REREAD_SECONDS:
            await self._reread()
        used = self._access
        request = {"params": parameters, "data": content, "headers": headers}
        try:
            return await self._send(verb, path, request)
        except Unauthenticated:
            await self._reread()
            if self._access == used:
                raise
            return await self._send(verb, path, request)

    async def _send(self, verb: str, path: str, request: Mapping[str, Any]) -> bytes:
        try:
            return await self._send_once(verb, path, request)
        except _Disconnected:
            if verb in _REPEATED_BY_AIOHTTP:
                raise
            return await self._send_once(verb, path, request)

    async def _send_once(self, verb: str, path: str, request: Mapping[str, Any]) -> bytes:
        access, start, status = self._access, monotonic(), 0
        headers = {**(request["headers"] or {})}
        if access.token:
            headers["Authorization"] = f"Bearer {access.token}"
        try:
            async with self._session.request(
                verb,
                URL(access.server + path, encoded=True),
                **{**request, "headers": headers, "data": _in_pieces(request["data"])},
                proxy=access.proxy or None,
                server_hostname=access.server_name or None,
                allow_redirects=False,
            ) as response:
                status = response.status
                body = await response.read()
        except TimeoutError as error:
            raise DeadlineExceeded(f"{self._named()} does not respond: {_text(error)}") from error
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
            raise Unreachable(f"{self._named()} cannot be reached: {_text(error)}") from error
        except aiohttp.ClientError as error:
            raise _Disconnected(f"{self._named()} has closed the connection: {_text(error)}") from error
        finally:
            REQUEST_SECONDS.labels(self._cluster, verb, str(status)).observe(monotonic() - start)
        if status >= _ERROR:
            raise self._error(status, body)
        return body

    def _error(self, status: int, body: bytes) -> ServiceError:
        error = to_error(status, body)
        # The server's words about credentials are the single word Unauthorized.
        if isinstance(error, Unauthenticated):
            return Unauthenticated(f"{self._named()} does not accept the credentials: {error.message}")
        return error

    async def _reread(self) -> None:
        """Read the credentials again; keep the former ones if they cannot be read."""
        async with self._rereading:
            try:
                access = await asyncio.to_thread(self._read_access)
                session = None if access.connects_as(self._access) else self._connect(access)
            except (OSError, ValueError) as error:
                log.warning("credentials cannot be read again", extra={"cluster": self._cluster, "cause": str(error)})
                self._read_at = monotonic()
                return
            former = self._session
            self._access, self._read_at = access, monotonic()
            if session is not None:
                self._session = session
        if session is not None:
            task = asyncio.create_task(_retire(former))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    def _connect(self, access: Access) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=access.tls() if access.server.startswith("https:") else True,
                limit=_MOST_CONNECTIONS,
                keepalive_timeout=_KEEPALIVE_SECONDS,
            ),
            headers={"User-Agent": self._user_agent, "Accept": "application/json"},
            timeout=aiohttp.ClientTimeout(
                total=None, connect=_RESPONSE_SECONDS, sock_connect=_CONNECT_SECONDS, sock_read=_RESPONSE_SECONDS
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Variables of proxies and .netrc are not the settings of a cluster.
            trust_env=False,
        )

    def _named(self) -> str:
        return f"the API server {self._cluster}" if self._cluster else "the API server"


def _in_pieces(content: bytes | None) -> bytes | BytesIO | None:
    """Return a body as aiohttp sends it: a large one piece by piece, so that other calls are served meanwhile."""
    return content if content is None or len(content) <= _LARGEST_PIECE else BytesIO(content)


async def _retire(session: aiohttp.ClientSession) -> None:
    """Close the connections of former credentials once no request under way can use them, or at the end."""
    try:
        await asyncio.sleep(_RESPONSE_SECONDS * 2)
    finally:
        await session.close()


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
