"""The watcher: the parent process of a task, which ends all that the task has started.

It is the subreaper of everything below it, so processes that detach themselves (double fork, `setsid`) stay its
children.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# From Linux's prctl.h.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# Sent to watchers: end the task with grace, and kill everything now. The kernel sends the second when the server dies.
END, KILL = signal.SIGTERM, signal.SIGHUP
_WATCHED = {END, KILL, signal.SIGCHLD}

_libc = ctypes.CDLL(None, use_errno=True)
_LINUX = sys.platform == "linux"


def watch(request: Mapping[str, Any], server: int) -> bool:
    """Run the task in a child and clear up after it; return True in the child, never in this process."""
    os.setsid()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, KILL)
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    for number in _WATCHED:
        signal.signal(number, signal.SIG_DFL)
    if os.getppid() != server:
        os._exit(0)
    watcher, started_at = os.getpid(), time.time()
    task = os.fork()
    if not task:
        _prctl(_PR_SET_CHILD_SUBREAPER, 0)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != watcher:
            os._exit(0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        return True
    status = _await(task, request["grace"])
    _kill_children()
    if status is not None:
        _write(Path(request["exit"]), {"status": status, "started_at": started_at, "ended_at": time.time()})
    os._exit(0)


def _await(task: int, grace: float) -> int | None:
    """Return the wait status of the task; None when it was ended by the server's signals: then it has no result."""
    deadline = None
    ended = False
    while True:
        wait = None if deadline is None else max(0.0, deadline - time.monotonic())
        received = signal.sigwait(_WATCHED) if wait is None else signal.sigtimedwait(_WATCHED, wait)
        number = None if received is None else received if isinstance(received, int) else received.si_signo
        if number == END and deadline is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(task, signal.SIGTERM)
            deadline = time.monotonic() + grace
            ended = True
        elif number == KILL or number is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(task, signal.SIGKILL)
            deadline = None
            ended = True
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return None if ended else signal.SIGKILL
            if process == task:
                return None if ended else status
            if not process:
                break


def _kill_children() -> None:
    """Kill all children, then theirs, which become children of this process, until there are none."""
    while True:
        for child in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    own = os.getpid()
    try:
        return [int(number) for number in Path(f"/proc/{own}/task/{own}/children").read_text().split()]
    except OSError:
        return [process for process in _processes() if _parent(process) == own]


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    except OSError:
        return []


def _parent(process: int) -> int | None:
    try:
        # The name, in parentheses, may contain anything; state and parent follow it.
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        return None


def _prctl(option: int, value: int) -> None:
    if _LINUX:
        _libc.prctl(option, value, 0, 0, 0)


def _write(file: Path, content: Mapping[str, Any]) -> None:
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)  # the task may have made a pipe of this name, whose open would wait for a reader
    fresh.write_text(json.dumps(content))
    fresh.replace(file)
