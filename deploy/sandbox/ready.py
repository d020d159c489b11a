"""Ways to tell that a part is ready. Each is asked again and again until it says so; none raises."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

# Given the part's process id.
Check = Callable[[int], Awaitable[bool]]

# On loopback an answer that takes longer comes from a process that is not ready.
ANSWER_SECONDS = 1.0
_STATUS_LINE = 7  # of postmaster.pid; the first line is the process id


def http_ok(address: str, path: str) -> Check:
    """Ready once GET `path` at `host:port` answers 200."""

    async def check(_pid: int) -> bool:
        return (await http(address, "GET", path)).startswith((b"HTTP/1.1 200", b"HTTP/1.0 200"))

    return check


def postmaster_ready(data: Path) -> Check:
    """Ready once PostgreSQL says so in its pid file, which costs no connection and needs no password."""

    async def check(pid: int) -> bool:
        lines = _lines(data / "postmaster.pid")
        return len(lines) > _STATUS_LINE and lines[0] == str(pid) and lines[_STATUS_LINE].strip() == "ready"

    return check


async def http(address: str, method: str, path: str) -> bytes:
    """One HTTP/1.1 request without body; answers the raw reply, nothing when there was none in time.

    By hand, as the supervisor stays small and quick to start: an HTTP client would cost it more than all the rest.
    """
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(f"{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
                return await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return b""


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
