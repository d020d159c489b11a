"""The fork server: a process of the tasks' Python that starts every attempt of a task as a fork of itself.

It is a script for the environment of tasks, so it uses the standard library and flytekit only. flytekit is imported
once, before the forks; a command of flytekit (`pyflyte-execute ...`) then begins in milliseconds. Any other command
replaces its fork (exec).

An attempt is two processes: a watcher and, as its child, the task. The watcher is the subreaper of everything that the
task starts, so processes that detach themselves (double fork, `setsid`) stay its children. When the task has ended or
is to end, it kills what is left, and writes how the task ended to the file that the request names.

Requests and reports are lines of JSON on the socket whose descriptor is the only argument:

    {"id": 1, "command": [..], "env": {..}, "folder": "..", "log": "..", "exit": "..", "warm": true, "grace": seconds,
     "nice": 0}
    {"id": 1, "end": true}
    reports {"ready": whether forks are warm}, {"id": 1, "ended": true}

A task that was ended on request, or because the server died, leaves no file.
"""

import contextlib
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_PACKAGE = "deploy"
if __name__ == "__main__":
    # The tasks' Python does not have this package, and the folder of this script has modules that would be found first.
    sys.path[0] = str(Path(__file__).parents[4])

from deploy.sandbox.engine.forking.warm import import_flytekit, run_warm, same_at_import  # noqa: E402 - see above
from deploy.sandbox.engine.forking.watcher import END, watch  # noqa: E402 - see above

# Shells' statuses of commands that cannot be run.
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_RECEIVE_BYTES = 1 << 20


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
        return watch(request, server)

    def _end(self, request: Mapping[str, Any]) -> None:
        for watcher, attempt in self._watchers.items():
            if attempt == request["id"]:
                os.kill(watcher, END)

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


def _run(request: Mapping[str, Any], is_warm: bool, path: Sequence[str]) -> None:
    """Become the task: its session, files, folder and environment, then its command."""
    os.setsid()
    os.nice(request["nice"])
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
        if is_warm and request["warm"] and same_at_import(server_environment, request["env"]):
            command = run_warm(command, path)
        _execute(command)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        os._exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE)


def _execute(command: Sequence[str]) -> None:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec keeps that
        signal.signal(number, signal.SIG_DFL)
    os.execvp(command[0], list(command))  # noqa: S606 - the command of the user's task


def _forget_package() -> None:
    """Forget this package, so that tasks import packages of their own with its name."""
    del sys.path[0]
    for name in [each for each in sys.modules if each.partition(".")[0] == _PACKAGE]:
        del sys.modules[name]


def main() -> None:
    """Serve until the socket is closed; in forks, run the task."""
    path = sys.path[1:]  # as that of a script in the environment, without its own folder
    _forget_package()
    server = _Server(socket.socket(fileno=int(sys.argv[1])))
    is_warm = import_flytekit()
    freeze: Callable[[], None] = importlib.import_module("gc").freeze
    freeze()  # so that a collection in a fork does not copy the pages of all imported objects
    server.report({"ready": is_warm})
    request = server.serve()
    if request is not None:
        _run(request, is_warm, path)


if __name__ == "__main__":
    main()
