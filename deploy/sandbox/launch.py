"""Start of the supervisor: in the foreground, or in the background with `make up` waiting until all is ready.

The starting process and the supervisor have the two ends of a socket. Over it the supervisor sends lines to print and
the exit code; if the starting process dies before that, the supervisor sees the end of the socket and stops everything.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from deploy.sandbox.client_config import client_config
from deploy.sandbox.cpu import sample_periodically
from deploy.sandbox.errors import SandboxError
from deploy.sandbox.layout import REPOSITORY, Layout
from deploy.sandbox.part import Part
from deploy.sandbox.ports import Ports
from deploy.sandbox.settings_file import ChosenSettings
from deploy.sandbox.state import RUNNING, STOPPING, StateFile
from deploy.sandbox.supervisor import Supervisor

MakeStack = Callable[[Layout, Ports, ChosenSettings], tuple[Part, ...]]
Print = Callable[[str], None]

# Passed on to the parts although the prefix is the services' own; `parts` sets all others of this prefix.
_PASSED_ON = ("FLYTEPLANE_LOG_LEVEL",)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Sent to the supervisor when the parts to hold down have changed.
HOLD_SIGNAL = signal.SIGUSR1
_INTERRUPTED = 130  # what shells expect of a program that Ctrl-C ended


@dataclass(frozen=True)
class Run:
    """One run of a sandbox: its folder, ports and parts, and when `up` began (monotonic seconds)."""

    layout: Layout
    ports: Ports
    parts: tuple[Part, ...]
    began: float


def in_foreground(run: Run) -> int:
    """Run until a signal; return the exit code."""
    return asyncio.run(_supervise(run, _print, None))


def in_background(run: Run, lock: int) -> int:
    """Start a supervisor that holds `lock`; return the exit code once all is ready or has failed."""
    here, there = socket.socketpair()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        here.close()
        _detach(run.layout, keep=(there.fileno(), lock))
        there.settimeout(0)
        code = asyncio.run(_supervise(run, lambda line: _send(there, {"print": line}), there))
        _send(there, {"exit": code})
        sys.stdout.flush()
        os._exit(code)  # without the starter's exit handlers
    there.close()
    os.close(lock)
    return _print_until_exit(here, child, run.layout)


def _print_until_exit(channel: socket.socket, supervisor: int, layout: Layout) -> int:
    """Print the supervisor's lines until it sends the exit code, and return it. Ctrl-C stops the supervisor."""
    # In a background job of a shell script SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupted = False
    stream = channel.makefile()
    while True:
        try:
            for line in stream:
                message = json.loads(line)
                if "exit" in message:
                    return _INTERRUPTED if interrupted else int(message["exit"])
                _print(message["print"])
        except KeyboardInterrupt:
            if not interrupted:
                _print("Stopping ...")
            interrupted = True
            os.kill(supervisor, signal.SIGTERM)
        else:
            break
    _print(f"The supervisor ended unexpectedly; see {layout.logs / 'supervisor.log'}")
    return 1


async def _supervise(run: Run, show: Print, starter: socket.socket | None) -> int:
    """Start all, report it, run until stopped; return the exit code."""
    file = StateFile(run.layout, run.ports)

    def changed() -> None:
        file.write(supervisor.processes.values())

    def started() -> None:
        file.phase = RUNNING
        changed()
        if starter is not None:
            loop.remove_reader(starter)
        show(_welcome(run, background=starter is not None))
        if starter is not None:
            _send(starter, {"exit": 0})

    def pids() -> dict[int, bool]:
        running = {each.process.pid: True for each in supervisor.processes.values() if each.process is not None}
        return {**running, os.getpid(): False}

    def stop() -> None:
        file.phase = STOPPING
        changed()
        supervisor.stop()

    def hold() -> None:
        supervisor.hold({file.name for file in run.layout.held.iterdir()})
        changed()

    width = max(len(part.name) for part in run.parts)
    supervisor = Supervisor(
        run.parts,
        env=_environment(),
        folder=REPOSITORY,
        logs=run.layout.logs,
        announce=lambda name, seconds: show(f"  {name:{width}}  ready after {seconds:4.1f} s"),
        changed=changed,
    )
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(HOLD_SIGNAL, hold)
    if starter is not None:
        loop.add_reader(starter, stop)  # the starter sends nothing: readable means that it is gone
    run.layout.client_config.write_text(client_config(run.ports.gateway))
    sampling = asyncio.create_task(sample_periodically(run.layout.cpu, pids))
    try:
        await supervisor.run(started)
    except SandboxError as error:
        show(f"{error}\nEverything was stopped.")
        return 1
    finally:
        sampling.cancel()
        file.remove()
    show("Stopped.")
    return 0


def _detach(layout: Layout, keep: tuple[int, ...]) -> None:
    """Leave the terminal and close inherited descriptors, such as pipes whose readers wait for the starter's end."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(layout.logs / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor, stream in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, stream)
    last = 2
    for descriptor in sorted(keep):
        os.closerange(last + 1, descriptor)
        last = descriptor
    os.closerange(last + 1, os.sysconf("SC_OPEN_MAX"))


def _send(channel: socket.socket, message: dict[str, object]) -> None:
    try:
        channel.sendall(json.dumps(message).encode() + b"\n")
    except OSError:
        return  # the starter has gone, as it does once all is ready


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _environment() -> dict[str, str]:
    """Return the environment of the parts, without variables that could redirect them or be unknown to a service."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or not name.startswith(("FLYTEPLANE_", "PG"))
    }


def _welcome(run: Run, *, background: bool) -> str:
    return "\n".join(
        (
            f"Flyteplane is ready after {time.monotonic() - run.began:.1f} s.",
            f"  endpoint       localhost:{run.ports.gateway} (gRPC, gRPC-Web, REST)",
            f"  client config  export FLYTECTL_CONFIG={run.layout.client_config}",
            f"  stop           {'make down' if background else 'Ctrl-C'}",
        )
    )
