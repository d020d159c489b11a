"""Checks of a part: whether it is ready, why it is not, and whether only a restart helps. None raises."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

# Takes the part's process id.
Check = Callable[[int], Awaitable[bool]]

# On loopback a process that needs longer to respond is not ready.
RESPONSE_SECONDS = 1.0
# A service that is not ready may need two seconds to find out why.
PROBLEM_SECONDS = 3.0
# Prefix of the address of a socket in the file system.
UNIX = "unix:"
# As large as the largest message of NATS.
_TRIAL = b"\0" * 8 * 1024 * 1024
_STATUS_LINE = 7  # of postmaster.pid; the first line is the process id


def http_ok(address: str, path: str) -> Check:
    """Return a check that GET `path` at `host:port` returns 200."""

    async def check(_pid: int) -> bool:
        return _is_ok(await http(address, "GET", path))

    return check


def http_problem(address: str, path: str) -> Callable[[], Awaitable[str]]:
    """Return a function for the body of GET `path` at `host:port`; an empty text for 200 or no response."""

    async def problem() -> str:
        head, _, body = (await http(address, "GET", path, PROBLEM_SECONDS)).partition(b"\r\n\r\n")
        return "" if not head or _is_ok(head) else body.decode(errors="replace").strip()

    return problem


def broken_for_good(address: str, path: str, data: Path, store: Path) -> Check:
    """Return a check of NATS that is true when it cannot write until it restarts, although its disk takes writes.

    Then GET `path` at `address` returns 503, or the folder `store` is gone: NATS makes it only at start, and does not
    report that it was deleted. While the disk is full a restart would change nothing and would stop what still works.
    """

    async def check(_pid: int) -> bool:
        response = await http(address, "GET", path)
        return (response.startswith(b"HTTP/1.1 503") or not _is_there(store)) and _takes_writes(data)

    return check


def _is_there(folder: Path) -> bool:
    return folder.exists()


def _takes_writes(folder: Path) -> bool:
    trial = folder / "trial"
    try:
        trial.write_bytes(_TRIAL)
    except OSError:
        return False
    finally:
        trial.unlink(missing_ok=True)
    return True


def postmaster_ready(data: Path) -> Check:
    """Return a check of the status in PostgreSQL's pid file, which takes no connection and no password."""

    async def check(pid: int) -> bool:
        lines = _lines(data / "postmaster.pid")
        return len(lines) > _STATUS_LINE and lines[0] == str(pid) and lines[_STATUS_LINE].strip() == "ready"

    return check


async def http(address: str, method: str, path: str, seconds: float = RESPONSE_SECONDS) -> bytes:
    """Send an HTTP/1.1 request without body to `host:port` or `unix:PATH`; return the raw response, empty without one.

    There is no HTTP client here because importing one would take longer than everything else at the supervisor's start.
    """
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(seconds):
            if address.startswith(UNIX):
                reader, writer = await asyncio.open_unix_connection(address.removeprefix(UNIX))
            else:
                reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                return await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return b""


def _is_ok(response: bytes) -> bool:
    return response.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200"))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
