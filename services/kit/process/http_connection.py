"""HTTP/1.1 as uvicorn speaks it, with bounds for clients that do not come to a request."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Of a request line and all headers; Envoy lets 60 KiB pass.
_MOST_HEAD_BYTES = 128 * 1024


def patient_for(seconds: float) -> type[asyncio.Protocol]:
    """Return the protocol of a connection that is closed when its next request's headers take longer than this."""

    class Patient(_Connection):
        patience = seconds

    return Patient


class _Connection(HttpToolsProtocol):
    """A connection that waits a bounded time for headers of a bounded size."""

    patience: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._patience: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what has come, unless the headers grow too long."""
        super().data_received(data)
        if self._patience is not None:
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD_BYTES:
                self.transport.close()

    def on_message_begin(self) -> None:
        """Wait for the headers of another request."""
        super().on_message_begin()
        if self._patience is None:
            self._wait()

    def on_headers_complete(self) -> None:
        """Go on to the request."""
        self._wait_no_more()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._head_bytes = 0
        self._patience = self.loop.call_later(self.patience, self.timeout_keep_alive_handler)

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
