"""The fork server's client: starts and ends attempts, and starts the server again when it has ended.

When the server ends, the kernel ends all attempts with it.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.sandbox.engine.tasks.folders import AttemptFolder

log = logging.getLogger(__name__)

_SCRIPT = Path(__file__).parents[1] / "forking" / "server.py"
# Importing flytekit takes one to three seconds, on a busy machine many times that.
_READY_SECONDS = 120.0
# A request contains the environment of a task.
_MOST_LINE_BYTES = 64 * 1024 * 1024


class ServerLost(Exception):
    """The fork server ended, and with it the attempt."""


@dataclass
class _Connection:
    """A running server, and the attempts that it runs."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    ends: dict[int, asyncio.Future[None]]
    is_warm: bool = False


class ForkServer:
    """Starts processes by a fork server of `python`.

    Args:
        python: the Python of tasks.
        env: environment of the server.
        log_file: gets its own messages.
        warm: whether commands of flytekit run in forks; otherwise each is a new process.
    """

    def __init__(self, python: Path, env: Mapping[str, str], log_file: Path, *, warm: bool) -> None:
        self._python = python
        self._env = dict(env)
        self._log_file = log_file
        self._warm = warm
        self._numbers = itertools.count(1)
        self._connection: _Connection | None = None
        self._starting = asyncio.Lock()
        self._receiving: asyncio.Task[None] | None = None

    async def run(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        folder: AttemptFolder,
        grace_seconds: float,
        *,
        nice: int = 0,
    ) -> None:
        """Run a command until all of its processes are gone; how it ended is in `folder.exit`.

        When this is cancelled, it ends the processes: by SIGTERM, after `grace_seconds` by SIGKILL.

        Raises:
            ServerLost: The server ended.
        """
        connection = await self._connect()
        number = next(self._numbers)
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        connection.ends[number] = ended
        request = {
            "id": number,
            "command": list(command),
            "env": dict(env),
            "folder": str(folder.work),
            "log": str(folder.log),
            "exit": str(folder.exit),
            "warm": self._warm,
            "grace": grace_seconds,
            "nice": nice,
        }
        _send(connection, request)
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            _send(connection, {"id": number, "end": True})
            with contextlib.suppress(ServerLost):
                await ended
            raise
        finally:
            connection.ends.pop(number, None)

    async def start(self) -> None:
        """Start the server before the first attempt needs it; raise ServerLost when it does not start."""
        await self._connect()

    async def close(self) -> None:
        """End the server, and all attempts at once."""
        if self._receiving is not None:
            self._receiving.cancel()
        if self._connection is not None:
            await _end(self._connection)

    async def _connect(self) -> _Connection:
        async with self._starting:
            if self._connection is None:
                self._connection = await self._launch()
                self._receiving = asyncio.create_task(self._receive(self._connection))
            return self._connection

    async def _launch(self) -> _Connection:
        here, there = socket.socketpair()
        with there, self._log_file.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(str(self._python), str(_SCRIPT), str(there.fileno())),
                env=self._env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(there.fileno(),),
                start_new_session=True,
            )
        reader, writer = await asyncio.open_unix_connection(sock=here, limit=_MOST_LINE_BYTES)
        connection = _Connection(process, reader, writer, {})
        try:
            async with asyncio.timeout(_READY_SECONDS):
                connection.is_warm = json.loads(await reader.readline())["ready"]
        except (TimeoutError, ValueError, OSError) as error:
            await _end(connection)
            raise ServerLost(f"{self._python} cannot run tasks; see {self._log_file}") from error
        log.info("the fork server is ready", extra={"pid": process.pid, "warm": connection.is_warm})
        return connection

    async def _receive(self, connection: _Connection) -> None:
        with contextlib.suppress(OSError):
            while line := await connection.reader.readline():
                ended = connection.ends.pop(json.loads(line)["id"], None)
                if ended is not None and not ended.done():
                    ended.set_result(None)
        log.warning("the fork server has ended")
        self._connection = None
        await _end(connection)
        for ended in connection.ends.values():
            if not ended.done():
                ended.set_exception(ServerLost("the fork server ended, and with it the task's processes"))


async def _end(connection: _Connection) -> None:
    """Kill the server, which ends all of its attempts."""
    connection.writer.close()
    with contextlib.suppress(ProcessLookupError):
        connection.process.kill()
    await connection.process.wait()
    with contextlib.suppress(OSError):
        await connection.writer.wait_closed()


def _send(connection: _Connection, message: Mapping[str, object]) -> None:
    connection.writer.write(json.dumps(message).encode() + b"\n")
