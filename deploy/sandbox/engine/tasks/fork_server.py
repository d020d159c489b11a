"""The fork server: a process of the tasks' Python that starts every attempt of a task as a fork of itself.

It is a script for the environment of tasks, so it uses the standard library and flytekit only. flytekit is imported
once, before the forks; a command of flytekit (`pyflyte-execute ...`) then begins in milliseconds. Any other command
replaces its fork (exec).

An attempt is two processes: a watcher and, as its child, the task. The watcher is the subreaper of everything that the
task starts, so processes that detach themselves (double fork, `setsid`) stay its children. When the task has ended or
is to end, it kills what is left, and writes how the task ended to the file that the request names.

Requests and reports are lines of JSON on the socket whose descriptor is the only argument:

    {"id": 1, "command": [..], "env": {..}, "folder": "..", "log": "..", "exit": "..", "warm": true, "grace": seconds}
    {"id": 1, "end": true}
    reports {"ready": whether forks are warm}, {"id": 1, "ended": true}

A task that was ended on request, or because the server died, leaves no file.
"""

import contextlib
import ctypes
import importlib
import json
import os
import random
import runpy
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

# From Linux's prctl.h.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# Sent to watchers: end the task with grace, and kill everything now. The kernel sends the second when the server dies.
_END, _KILL = signal.SIGTERM, signal.SIGHUP
_WATCHED = {_END, _KILL, signal.SIGCHLD}
# Shells' statuses of commands that cannot be run.
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_RECEIVE_BYTES = 1 << 20
# Modules and commands of flytekit; only these run without a new interpreter.
_ENTRYPOINT = "flytekit.bin.entrypoint"
_COMMANDS = ("pyflyte-execute", "pyflyte-map-execute")
_FAST = "pyflyte-fast-execute"
# Variables that Python or flytekit read when they are imported: with other values than the server's a fork would differ
# from a new process.
_READ_AT_IMPORT = ("PYTHON", "LD_", "FLYTE_SDK_", "_F_P_", "_F_TE_")

_libc = ctypes.CDLL(None, use_errno=True)
_LINUX = sys.platform == "linux"


class _Server:
    """The loop of the server; `serve` returns in the process of a task only."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._watchers: dict[int, int] = {}  # id of the attempt by process id of its watcher
        self._received = b""

    def serve(self) -> dict[str, Any] | None:
        """Process requests until the socket is closed, which returns None; return the request in each task."""
        woken, wake = os.pipe()
        for descriptor in (woken, wake):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._channel:
                        data = self._channel.recv(_RECEIVE_BYTES)
                        if not data:
                            return None
                        task = self._receive(data)
                        if task is not None:
                            return task
                    else:
                        with contextlib.suppress(BlockingIOError):
                            os.read(woken, 4096)
                        self._reap()

    def _receive(self, data: bytes) -> dict[str, Any] | None:
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "end" in request:
                self._end(request)
            elif self._start(request):
                return dict(request)
        return None

    def _start(self, request: Mapping[str, Any]) -> bool:
        """Start the processes of an attempt; return whether this process is the task."""
        server = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        watcher = os.fork()
        if watcher:
            self._watchers[watcher] = request["id"]
            return False
        signal.set_wakeup_fd(-1)
        self._channel.close()
        return _watch(request, server)

    def _end(self, request: Mapping[str, Any]) -> None:
        for watcher, attempt in self._watchers.items():
            if attempt == request["id"]:
                os.kill(watcher, _END)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                process, _ = os.waitpid(-1, os.WNOHANG)
                if not process:
                    return
                attempt = self._watchers.pop(process, None)
                if attempt is not None:
                    self.report({"id": attempt, "ended": True})

    def report(self, message: Mapping[str, Any]) -> None:
        """Send a line; the end of the socket is noticed by the next read."""
        with contextlib.suppress(OSError):
            self._channel.sendall(json.dumps(message).encode() + b"\n")


def _watch(request: Mapping[str, Any], server: int) -> bool:
    """Run the task in a child and clear up after it; return True in the child, never in this process."""
    os.setsid()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, _KILL)
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
        if number == _END and deadline is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(task, signal.SIGTERM)
            deadline = time.monotonic() + grace
            ended = True
        elif number == _KILL or number is None:
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
    fresh.write_text(json.dumps(content))
    fresh.replace(file)


def _run(request: Mapping[str, Any], is_warm: bool, path: Sequence[str]) -> None:
    """Become the task: its session, files, folder and environment, then its command."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor, stream in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, stream)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    server_environment = dict(os.environ)
    os.environ.clear()
    os.environ.update(request["env"])
    command = request["command"]
    try:
        os.chdir(request["folder"])
        if is_warm and request["warm"] and _same_at_import(server_environment, request["env"]):
            command = _run_warm(command, path)
        _execute(command)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        os._exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE)


def _execute(command: Sequence[str]) -> None:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec keeps that
        signal.signal(number, signal.SIG_DFL)
    os.execvp(command[0], list(command))  # noqa: S606 - the command of the user's task


def _same_at_import(server: Mapping[str, str], task: Mapping[str, str]) -> bool:
    return all(
        server.get(name) == task.get(name)
        for name in {*server, *task}
        if name.startswith(_READ_AT_IMPORT) and name != "PYTHONPATH"
    )


def _run_warm(command: Sequence[str], path: Sequence[str]) -> Sequence[str]:
    """Run a command of flytekit in this process and exit; return the command when it needs a new process."""
    if command[0] not in {*_COMMANDS, _FAST}:
        return command
    random.seed()  # otherwise all forks would draw the same numbers
    _renew_flytekit()
    if command[0] == _FAST:
        command = _unpacked(command)
    script = shutil.which(command[0])
    if script is None or command[0] not in _COMMANDS or Path(script).parent != Path(sys.executable).parent:
        return command
    added = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if _shadows(added):
        return command
    sys.path[:] = [str(Path(script).parent), *added, *path]
    sys.argv[:] = [script, *command[1:]]
    importlib.invalidate_caches()
    runpy.run_path(script, run_name="__main__")
    sys.exit()


def _unpacked(command: Sequence[str]) -> Sequence[str]:
    """Do what pyflyte-fast-execute does before it starts another process; return the command of that process."""
    entrypoint = importlib.import_module(_ENTRYPOINT)
    context = entrypoint.fast_execute_task_cmd.make_context(_FAST, list(command[1:]))
    distribution, folder = context.params["additional_distribution"], context.params["dest_dir"]
    if distribution is not None:
        folder = folder or os.getcwd()  # noqa: PTH109
        entrypoint._download_distribution(distribution, folder)  # noqa: SLF001 - its only implementation
    unpacked: list[str] = []
    for argument in context.params["task_execute_cmd"]:
        if argument == "--resolver":
            unpacked += ["--dynamic-addl-distro", distribution, "--dynamic-dest-dir", folder]
        unpacked.append(argument)
    if folder is not None:
        before = os.environ.get("PYTHONPATH")
        own = os.path.realpath(os.path.expanduser(folder))  # noqa: PTH111
        os.environ["PYTHONPATH"] = own if before is None else before + os.pathsep + own
    return unpacked


def _shadows(folders: Iterable[str]) -> bool:
    """Return whether a module in `folders` would take the place of one that this process has imported already."""
    loaded = {name.partition(".")[0] for name in sys.modules}
    for folder in folders:
        with contextlib.suppress(OSError):
            if any(name.partition(".")[0] in loaded for name in os.listdir(folder)):  # noqa: PTH208
                return True
    return False


def _renew_flytekit() -> None:
    """Make anew what flytekit made at import from the environment: temporary folders and its context."""
    tempfile.tempdir = None
    persistence = importlib.import_module("flytekit.core.data_persistence")
    contexts = importlib.import_module("flytekit.core.context_manager")
    folder = tempfile.mkdtemp(prefix="flyte-")
    contexts.default_local_file_access_provider = persistence.FileAccessProvider(  # type: ignore[attr-defined]
        local_sandbox_dir=str(Path(folder, "sandbox")), raw_output_prefix=str(Path(folder, "raw"))
    )
    contexts.FlyteContextManager.initialize()


def _import_flytekit() -> bool:
    """Import what flytekit's commands need; return whether forks of this process are as good as new processes."""
    try:
        importlib.import_module(_ENTRYPOINT)
        importlib.import_module("flytekit.core.array_node_map_task")
    except Exception as error:  # noqa: BLE001 - without flytekit commands run as new processes, and fail as such
        sys.stderr.write(f"flytekit cannot be imported: {error!r}\n")
        return False
    threads = len(os.listdir(f"/proc/{os.getpid()}/task")) if _LINUX else 1  # noqa: PTH208
    if threads > 1:  # a fork has none of them, but the locks that they hold
        sys.stderr.write(f"flytekit's import has started {threads - 1} threads; tasks run as new processes\n")
    return threads == 1


def main() -> None:
    """Serve until the socket is closed; in forks, run the task."""
    path = sys.path[1:]  # as that of a script in the environment, without its own folder
    server = _Server(socket.socket(fileno=int(sys.argv[1])))
    is_warm = _import_flytekit()
    freeze: Callable[[], None] = importlib.import_module("gc").freeze
    freeze()  # so that a collection in a fork does not copy the pages of all imported objects
    server.report({"ready": is_warm})
    request = server.serve()
    if request is not None:
        _run(request, is_warm, path)


if __name__ == "__main__":
    main()
