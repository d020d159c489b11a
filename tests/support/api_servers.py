"""An HTTP server that plays an API server: it replies what a test prescribes, and records requests."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Received:
    """A request."""

    verb: str
    path: str
    parameters: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")


Respond = Callable[[Received], tuple[int, Any]]


@dataclass
class PlayedServer:
    """The server; `respond` returns the status and body of each response, or a status 0 to close the connection."""

    url: str
    respond: Respond
    received: list[Received] = field(default_factory=list)


def failure(status: int, reason: str, message: str) -> tuple[int, Any]:
    """Return a response with a metav1.Status."""
    return status, {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": status}


@contextmanager
def played_server(respond: Respond, port: int = 0) -> Iterator[PlayedServer]:
    """Run a server in a thread during the block, on any free port unless one is given."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _respond(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Received(self.command, url.path, dict(parse_qsl(url.query)), dict(self.headers), body)
            server.received.append(request)
            status, content = server.respond(request)
            if not status:
                self.close_connection = True
                return
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = _respond  # noqa: N815  # the library calls them by these names

        def log_message(self, *_arguments: Any) -> None:
            """Log nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    listening.daemon_threads = True
    server = PlayedServer(f"http://127.0.0.1:{listening.server_port}", respond)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
