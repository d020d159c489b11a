"""HTTP requests to one API server, with credentials that may change at any time."""

import asyncio
import logging
from collections.abc import Mapping
from time import monotonic
from typing import Any

import httpx
from prometheus_client import Histogram

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
# The pool looks at every idle connection for each request, which costs as much as the request if there are many.
_LIMITS = httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=60.0)
_ERROR = 400

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
        self._client = self._connect(self._access)
        self._rereading = asyncio.Lock()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

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
        request = {"params": parameters, "content": content, "headers": headers}
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
            return await self._send_once(verb, path, request)

    async def _send_once(self, verb: str, path: str, request: Mapping[str, Any]) -> bytes:
        access, start, status = self._access, monotonic(), 0
        headers = {**(request["headers"] or {})}
        if access.token:
            headers["Authorization"] = f"Bearer {access.token}"
        extensions = {"sni_hostname": access.server_name} if access.server_name else None
        try:
            response = await self._client.request(
                verb, access.server + path, **{**request, "headers": headers}, extensions=extensions
            )
            status = response.status_code
        except httpx.TimeoutException as error:
            raise DeadlineExceeded(f"{self._named()} does not respond: {_text(error)}") from error
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as error:
            raise _Disconnected(f"{self._named()} has closed the connection: {_text(error)}") from error
        except httpx.HTTPError as error:
            raise Unreachable(f"{self._named()} cannot be reached: {_text(error)}") from error
        finally:
            REQUEST_SECONDS.labels(self._cluster, verb, str(status)).observe(monotonic() - start)
        if status >= _ERROR:
            raise self._error(status, response.content)
        return response.content

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
                client = None if access.connects_as(self._access) else self._connect(access)
            except (OSError, ValueError) as error:
                log.warning("credentials cannot be read again", extra={"cluster": self._cluster, "cause": str(error)})
                self._read_at = monotonic()
                return
            former = self._client
            self._access, self._read_at = access, monotonic()
            if client is not None:
                self._client = client
        if client is not None:
            # Requests under way use the former connections.
            asyncio.get_running_loop().call_later(_RESPONSE_SECONDS * 2, _close_soon, former)

    def _connect(self, access: Access) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            verify=access.tls() if access.server.startswith("https:") else True,
            headers={"User-Agent": self._user_agent, "Accept": "application/json"},
            timeout=httpx.Timeout(_RESPONSE_SECONDS, connect=_CONNECT_SECONDS),
            limits=_LIMITS,
            proxy=access.proxy or None,
            # Variables of proxies, certificates and .netrc are not the settings of a cluster.
            trust_env=False,
        )

    def _named(self) -> str:
        return f"the API server {self._cluster}" if self._cluster else "the API server"


_closing: set[asyncio.Task[None]] = set()


def _close_soon(client: httpx.AsyncClient) -> None:
    task = asyncio.ensure_future(client.aclose())
    _closing.add(task)
    task.add_done_callback(_closing.discard)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
