"""Addresses and credentials of NATS from the settings; passwords never appear in messages."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import SplitResult, unquote, urlsplit

from nats.aio.client import Client
from nats.errors import Error as NatsError

_CONNECT_TIMEOUT_SECONDS = 2
_RECONNECT_WAIT_SECONDS = 0.2
# How long a start waits for the server; the supervisor of the process restarts it.
_START_SECONDS = 5.0
_CLOSE_SECONDS = 0.5
_CANCEL_AGAIN_SECONDS = 0.05
_PLAIN, _TLS = "nats", "tls"
_INBOX = "_INBOX"


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: trusted certificates (None: the system's), and the client certificate for servers that require one."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class NatsServer:
    """One or several servers of a cluster, and the user of this process."""

    servers: tuple[str, ...]
    """scheme://host:port, without credentials."""
    user: str
    password: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse `nats://[user:password@]host[:port]`, with tls:// for TLS; raise ValueError for anything else.

        Several servers are separated by commas; the user of one is used for all.
        """
        parts = [_split(server.strip()) for server in url.split(",")]
        if len({part.scheme for part in parts}) > 1:
            raise ValueError("must be nats:// or tls:// for all servers alike")
        with_user = next((part for part in parts if part.username), parts[0])
        return cls(
            tuple(f"{part.scheme}://{part.netloc.rpartition('@')[2]}" for part in parts),
            unquote(with_user.username or ""),
            unquote(with_user.password or ""),
        )

    @property
    def tls(self) -> bool:
        """Whether the connection must be encrypted."""
        return self.servers[0].startswith(_TLS)

    async def connect(self, name: str, files: TlsFiles, on_error: Callable[[Exception], Awaitable[None]]) -> Client:
        """Return a connected client, which reconnects by itself until it is closed.

        Args:
            name: the client's name, shown by the server.
            files: files for TLS.
            on_error: receives errors that occur later.

        Raises:
            NatsError: the server refuses the connection, or offers no TLS when it is required; nothing was sent then.
            OSError: the server cannot be reached, or a file cannot be read.
            TimeoutError: the server does not respond.
        """
        client = _TlsOnly() if self.tls else Client()
        try:
            # The client's unlimited reconnects would also apply to the first attempt.
            async with asyncio.timeout(_START_SECONDS):
                await client.connect(
                    **self.options(files),
                    name=name,
                    connect_timeout=_CONNECT_TIMEOUT_SECONDS,
                    reconnect_time_wait=_RECONNECT_WAIT_SECONDS,  # type: ignore[arg-type]  # fractions do as well
                    max_reconnect_attempts=-1,
                    # Otherwise it would retry a server that refuses it without end, and drop cancellations then.
                    allow_reconnect=False,
                    error_cb=on_error,
                )
        except (NatsError, OSError, TimeoutError):
            await close(client)
            raise
        client.options["allow_reconnect"] = True
        return client

    def options(self, files: TlsFiles) -> dict[str, Any]:
        """Return arguments of the client's `connect`; raise OSError when a file cannot be read."""
        options: dict[str, Any] = {"servers": list(self.servers)}
        if self.tls:
            options["tls"] = ssl.create_default_context(cafile=files.ca)
            if files.certificate:
                options["tls"].load_cert_chain(files.certificate, files.key)
        if self.user:
            # The inbox has the user's name, so that the server can refuse other users' subscriptions to it.
            options |= {"user": self.user, "password": self.password, "inbox_prefix": f"{_INBOX}.{self.user}"}
        return options

    def __str__(self) -> str:
        """Return the addresses, without credentials."""
        return ", ".join(self.servers)


async def close(client: Client) -> None:
    """Disconnect at once, and end the attempts to reconnect."""
    with contextlib.suppress(TimeoutError):  # after a failed handshake the client would wait without end
        async with asyncio.timeout(_CLOSE_SECONDS):
            await client.close()
    # It connects by asyncio.wait_for, which can lose a cancellation (Python 3.11): it would then go on reconnecting.
    while (task := client._reconnection_task) is not None and not task.done():  # noqa: SLF001  # no other way to end it
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_AGAIN_SECONDS)


class _TlsOnly(Client):
    """A client that refuses servers without TLS: nats-py would send them the password in clear text."""

    def _connect_command(self) -> bytes:
        if not self._server_info.get("tls_required"):
            raise NatsError("the server does not offer TLS")
        return super()._connect_command()


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port  # parsed only now
    except ValueError:
        raise ValueError("must be nats://host:port or tls://host:port") from None  # its text may contain a password
    if parts.scheme not in {_PLAIN, _TLS} or not parts.hostname or port == 0 or parts.path or parts.query:
        raise ValueError("must be nats://host:port or tls://host:port")
    return parts
