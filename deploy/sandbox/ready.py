"""Ways to tell that a part is ready. Each is asked again and again until it says so; none raises."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

# Given the part's process id.
Check = Callable[[int], Awaitable[bool]]

# On loopback an answer that takes longer comes from a process that is not ready.
ANSWER_SECONDS = 1.0
# Who is ill may need two seconds to find that out.
TELLING_SECONDS = 3.0
# What the address of a socket in the file system begins with.
UNIX = "unix:"
# As large as the largest message of NATS.
_TRIAL = b"\0" * 8 * 1024 * 1024
_STATUS_LINE = 7  # of postmaster.pid; the first line is the process id


def http_ok(address: str, path: str) -> Check:
    """Ready once GET `path` at `host:port` answers 200."""

    async def check(_pid: int) -> bool:
        return _is_ok(await http(address, "GET", path))

    return check


def http_told(address: str, path: str) -> Callable[[], Awaitable[str]]:
    """What GET `path` at `host:port` says is wrong; nothing when it answers 200, or not at all."""

    async def told() -> str:
        head, _, body = (await http(address, "GET", path, TELLING_SECONDS)).partition(b"\r\n\r\n")
        return "" if not head or _is_ok(head) else body.decode(errors="replace").strip()

    return told


def broken_for_good(address: str, path: str, data: Path, store: Path) -> Check:
    """Whether GET `path` is answered by 503 although `data` takes writes: what it could not write it never will.

    Nor does it write, though it says nothing of it, when somebody has deleted the folder `store`, which it makes once.

    While the disk is full a restart would change nothing, and take away what still works.
    """

    async def check(_pid: int) -> bool:
        answer = await http(address, "GET", path)
        return (answer.startswith(b"HTTP/1.1 503") or not _is_there(store)) and _takes_writes(data)

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
    """Ready once PostgreSQL says so in its pid file, which costs no connection and needs no password."""

    async def check(pid: int) -> bool:
        lines = _lines(data / "postmaster.pid")
        return len(lines) > _STATUS_LINE and lines[0] == str(pid) and lines[_STATUS_LINE].strip() == "ready"

    return check


async def http(address: str, method: str, path: str, seconds: float = ANSWER_SECONDS) -> bytes:
    """One HTTP/1.1 request without body to `host:port` or `unix:PATH`; answers the raw reply, nothing without one.

    By hand, as the supervisor stays small and quick to start: an HTTP client would cost it more than all the rest.
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


def _is_ok(answer: bytes) -> bool:
    return answer.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200"))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
