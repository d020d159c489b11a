"""Attempts run in processes of their own, of which nothing is left when they end."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from deploy.sandbox.engine.tasks.folders import AttemptFolder
from deploy.sandbox.engine.tasks.forks import ForkServer, ServerLost
from tests.support.waiting import until

ENV = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
# A child that leaves its parent's session and process group, as daemons do; its process id is printed.
DETACHED = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    detached = os.fork()
    if detached:
        print(detached, flush=True)
        os._exit(0)
    time.sleep(600)
os.wait()
{then}
"""

# glibc lets the children of processes that have cancelled threads ignore 32 and 33, and lets no program change it.
SIGNALS_OF_LIBC = 1 << 31 | 1 << 32


@pytest.fixture
async def forks(tmp_path: Path) -> AsyncIterator[ForkServer]:
    server = ForkServer(Path(sys.executable), ENV, tmp_path / "server.log", warm=True)
    yield server
    await server.close()


@pytest.fixture
def folder(tmp_path: Path) -> AttemptFolder:
    made = AttemptFolder(tmp_path / "attempt")
    made.make()
    return made


def status(folder: AttemptFolder) -> int:
    return os.waitstatus_to_exitcode(json.loads(folder.exit.read_text())["status"])


async def run(forks: ForkServer, folder: AttemptFolder, *command: str, grace: float = 5.0) -> None:
    await forks.run(command, {**ENV, "MINE": "1"}, folder, grace)


async def test_command_runs_in_its_folder_with_its_environment_and_log(
    forks: ForkServer, folder: AttemptFolder
) -> None:
    script = """
import os, sys
print(os.getcwd(), os.environ["MINE"], sorted(os.environ), flush=True)
print("ü", file=sys.stderr)
"""
    await run(forks, folder, sys.executable, "-c", script)
    assert status(folder) == 0
    text = folder.log.read_text()
    assert text.startswith(f"{folder.work} 1 ")
    assert "ü" in text
    assert "['LANG', 'LC_CTYPE', 'MINE', 'PATH']" in text or "['LANG', 'MINE', 'PATH']" in text


@pytest.mark.parametrize(
    ("script", "code"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", -9), ("1 / 0", 1)]
)
async def test_end_of_the_command_is_recorded(forks: ForkServer, folder: AttemptFolder, script: str, code: int) -> None:
    await run(forks, folder, sys.executable, "-c", script)
    assert status(folder) == code


async def test_pipe_in_place_of_the_end_s_file_does_not_keep_the_attempt(
    forks: ForkServer, folder: AttemptFolder
) -> None:
    running = asyncio.create_task(run(forks, folder, "mkfifo", "../exit.new", "../exit"))
    await asyncio.wait({running}, timeout=30.0)  # an attempt that cannot end cannot be cancelled
    assert running.done()
    assert status(folder) == 0


async def test_command_that_does_not_exist_ends_as_in_a_shell(forks: ForkServer, folder: AttemptFolder) -> None:
    await run(forks, folder, "no-such-command")
    assert status(folder) == 127
    assert folder.log.read_text() == "no-such-command: No such file or directory\n"


async def test_command_begins_with_default_signals_and_no_descriptors(forks: ForkServer, folder: AttemptFolder) -> None:
    script = "cat /proc/self/status | grep -E 'SigBlk|SigIgn'; ls /proc/self/fd"
    await run(forks, folder, "sh", "-c", script)
    lines = folder.log.read_text().split()
    assert lines[:3] == ["SigBlk:", "0" * 16, "SigIgn:"]
    assert int(lines[3], 16) & ~SIGNALS_OF_LIBC == 0
    assert set(lines[4:]) <= {"0", "1", "2", "3"}  # the last is that of ls itself


async def test_detached_processes_end_with_their_task(forks: ForkServer, folder: AttemptFolder) -> None:
    await run(forks, folder, sys.executable, "-c", DETACHED.format(then=""))
    assert status(folder) == 0
    assert not psutil.pid_exists(int(folder.log.read_text()))


async def test_cancelled_attempt_ends_with_all_its_processes_and_without_a_result(
    forks: ForkServer, folder: AttemptFolder
) -> None:
    then = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(600)"
    running = asyncio.create_task(run(forks, folder, sys.executable, "-c", DETACHED.format(then=then), grace=0.3))
    await until(lambda: folder.log.exists() and "on" in folder.log.read_text())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    detached = int(folder.log.read_text().split()[0])
    assert not psutil.pid_exists(detached)
    assert not folder.exit.exists()


async def test_cancelled_attempt_may_finish_on_sigterm(forks: ForkServer, folder: AttemptFolder) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo on; while :; do sleep 0.05; done"
    running = asyncio.create_task(run(forks, folder, "sh", "-c", script))
    await until(lambda: folder.log.exists() and "on" in folder.log.read_text())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert folder.log.read_text().endswith("bye\n")


async def test_attempts_end_with_a_killed_server_and_the_next_one_starts_another(
    forks: ForkServer, folder: AttemptFolder
) -> None:
    running = asyncio.create_task(run(forks, folder, "sh", "-c", "echo $$; exec sleep 600"))
    await until(lambda: folder.log.exists() and folder.log.read_text().endswith("\n"))
    assert forks._connection is not None
    os.kill(forks._connection.process.pid, signal.SIGKILL)
    with pytest.raises(ServerLost):
        await running
    task = int(folder.log.read_text())
    await until(lambda: not psutil.pid_exists(task))
    assert not folder.exit.exists()
    folder.make()
    await run(forks, folder, "true")
    assert status(folder) == 0


async def test_python_that_is_not_there_is_reported(tmp_path: Path, folder: AttemptFolder) -> None:
    forks = ForkServer(Path("/bin/false"), ENV, tmp_path / "server.log", warm=True)
    with pytest.raises(ServerLost, match="cannot run tasks"):
        await run(forks, folder, "true")


async def test_task_runs_with_its_niceness(forks: ForkServer, folder: AttemptFolder) -> None:
    await forks.run(("nice",), ENV, folder, 5.0, nice=7)
    assert folder.log.read_text().strip() == str(os.nice(0) + 7)
