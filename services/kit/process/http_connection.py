"""uvicorn's HTTP/1.1 connection, with limits on time and size of request headers."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Limit of the request line and all headers; Envoy passes 60 KiB.
_MOST_HEAD_BYTES = 128 * 1024
# Limit of the request's target: no file has a longer path, and decoding 60 KiB would take 7 ms.
_MOST_TARGET_BYTES = 16 * 1024


def connection_with_timeout(seconds: float) -> type[asyncio.Protocol]:
    """Return a connection class that closes when the headers of the next request take longer than `seconds`."""

    class WithTimeout(_Connection):
        header_seconds = seconds

    return WithTimeout


class _Connection(HttpToolsProtocol):
    """A connection with limits on time and size of request headers."""

    header_seconds: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Start the timer for the first request."""
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Process received bytes; close the connection when the headers are too long."""
        super().data_received(data)
        if self._timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD_BYTES:
                self.transport.close()

    def on_message_begin(self) -> None:
        """Start the timer for the headers of another request."""
        super().on_message_begin()
        if self._timer is None:
            self._start_timer()

    def on_headers_complete(self) -> None:
        """Stop the timer and serve the request; one for a longer target than any is 404."""
        self._stop_timer()
        if len(self.url) > _MOST_TARGET_BYTES:
            self.url = b"/"
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._head_bytes = 0
        self._timer = self.loop.call_later(self.header_seconds, self.timeout_keep_alive_handler)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
