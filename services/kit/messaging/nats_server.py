"""Where NATS is and how this process is known to it, as the settings say; nothing of a password is ever told again."""

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
# How long a start waits for the server; whoever started the process tries again.
_START_SECONDS = 5.0
_CLOSE_SECONDS = 0.5
_PLAIN, _TLS = "nats", "tls"
_INBOX = "_INBOX"


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: whom to trust, and what to show to a server that asks for it; None leaves it to the system."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class NatsServer:
    """One or several servers of a cluster, and the user that this process is."""

    places: tuple[str, ...]
    """scheme://host:port, without credentials."""
    user: str
    password: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read `nats://[user:password@]host[:port]`, tls:// for TLS, several with commas; raises ValueError.

        One of several tells the user for all.
        """
        parts = [_split(one.strip()) for one in url.split(",")]
        if len({part.scheme for part in parts}) > 1:
            raise ValueError("must be nats:// or tls:// for all servers alike")
        known = next((part for part in parts if part.username), parts[0])
        return cls(
            tuple(f"{part.scheme}://{part.netloc.rpartition('@')[2]}" for part in parts),
            unquote(known.username or ""),
            unquote(known.password or ""),
        )

    @property
    def tls(self) -> bool:
        """Whether the connection is to be encrypted."""
        return self.places[0].startswith(_TLS)

    async def connect(self, name: str, files: TlsFiles, told: Callable[[Exception], Awaitable[None]]) -> Client:
        """Connect as `name`, and again by itself, for ever; raises what nats-py does, OSError or TimeoutError.

        `told` gets the errors of later. Without TLS where it is asked for not a word is said.
        """
        client = _TlsOnly() if self.tls else Client()
        try:
            connecting = client.connect(
                **self.options(files),
                name=name,
                connect_timeout=_CONNECT_TIMEOUT_SECONDS,
                reconnect_time_wait=_RECONNECT_WAIT_SECONDS,  # type: ignore[arg-type]  # fractions do as well
                max_reconnect_attempts=-1,
                # Or a server that refuses this process would be asked for ever: the client drops cancellations then.
                allow_reconnect=False,
                error_cb=told,
            )
            # The client's patience for reconnecting would also apply to its first try.
            await asyncio.wait_for(connecting, _START_SECONDS)
        except (NatsError, OSError, TimeoutError):
            with contextlib.suppress(TimeoutError):  # after a handshake that failed the client would wait for ever
                await asyncio.wait_for(client.close(), _CLOSE_SECONDS)
            raise
        client.options["allow_reconnect"] = True
        return client

    def options(self, files: TlsFiles) -> dict[str, Any]:
        """Return what the client's `connect` needs to know; raises OSError when a file cannot be read."""
        options: dict[str, Any] = {"servers": list(self.places)}
        if self.tls:
            options["tls"] = ssl.create_default_context(cafile=files.ca)
            if files.certificate:
                options["tls"].load_cert_chain(files.certificate, files.key)
        if self.user:
            # Replies come to an inbox below the user's own, so that the server can keep others from reading them.
            options |= {"user": self.user, "password": self.password, "inbox_prefix": f"{_INBOX}.{self.user}"}
        return options

    def __str__(self) -> str:
        """Tell where it is, and nothing else."""
        return ", ".join(self.places)


class _TlsOnly(Client):
    """nats-py would send the password in the clear to whoever says that it needs no TLS."""

    def _connect_command(self) -> bytes:
        if not self._server_info.get("tls_required"):
            raise NatsError("the server does not offer TLS")
        return super()._connect_command()


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port  # parsed only now
    except ValueError:
        raise ValueError("must be nats://host:port or tls://host:port") from None  # its text may hold a password
    if parts.scheme not in {_PLAIN, _TLS} or not parts.hostname or port == 0 or parts.path or parts.query:
        raise ValueError("must be nats://host:port or tls://host:port")
    return parts
