"""The commands of the sandbox. Each returns the exit code."""

import argparse
import errno
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.sandbox import settings, settings_file
from deploy.sandbox.errors import SandboxError
from deploy.sandbox.launch import HOLD_SIGNAL, MakeStack, Run, in_background, in_foreground
from deploy.sandbox.layout import ENGINE, Layout
from deploy.sandbox.logs import show
from deploy.sandbox.parts import port_names
from deploy.sandbox.runs import engine_runs, run_lines, task_line
from deploy.sandbox.state import RUNNING, PartState, State
from deploy.sandbox.supervisor import READY_SECONDS

NOT_RUNNING = 3  # as `status` of service managers returns
UNHEALTHY = 1
# Envoy's drain, the services' 10 s and the databases' shutdown together take less.
_DOWN_SECONDS = 40.0
_POLL_SECONDS = 0.05
# The disk is full or must not be filled further.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_PORT_NUMBERS = range(1, 65536)


def main(arguments: Sequence[str], make_stack: MakeStack) -> int:
    """Carry out one command line; `make_stack` returns the parts of the stack."""
    parsed = _parser().parse_args(arguments)
    layout = Layout(Path(parsed.dir).expanduser().resolve())
    try:
        if parsed.command == "up":
            return up(layout, parsed.port, make_stack, foreground=parsed.foreground)
        if parsed.command == "down":
            return down(layout)
        if parsed.command == "status":
            return status(layout, make_stack)
        if parsed.command == "runs":
            return runs(layout)
        if parsed.command == "logs":
            return logs(layout, parsed.part, lines=parsed.lines, follow=parsed.follow)
        if parsed.command == "stop":
            return stop(layout, parsed.part)
        if parsed.command == "start":
            return start(layout, parsed.part)
        return reset(layout)
    except SandboxError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        sys.stderr.write(f"{error.filename or layout.root}: {error.strerror}\n")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def up(layout: Layout, port: int, make_stack: MakeStack, *, foreground: bool) -> int:
    """Start the stack, unless it runs already.

    Raises:
        SandboxError: something is in the way, such as a port in use.
    """
    began = time.monotonic()
    layout.prepare()
    lock = layout.claim()
    if lock is None:
        state = State.read(layout)
        if state is None or state.phase != RUNNING:
            raise SandboxError(f"the sandbox in {layout.root} is starting or stopping right now; try again in a moment")
        _print(f"Flyteplane is running already: localhost:{state.port}\n  client config  {layout.client_config}")
        return 0
    chosen = settings_file.read(layout)
    layout.state.unlink(missing_ok=True)  # of a supervisor that was killed
    _rotate_logs(layout)
    for held in layout.held.iterdir():
        held.unlink()
    ports = layout.find_ports(port, port_names())
    run = Run(layout, ports, make_stack(layout, ports, chosen), began)
    _print(f"Starting Flyteplane in {layout.root}")
    return in_foreground(run) if foreground else in_background(run, lock)


def down(layout: Layout) -> int:
    """Stop everything in order, and wait for it."""
    if not layout.running:
        _print("Flyteplane is not running.")
        return 0
    state = State.read(layout)
    if state is None:
        raise SandboxError(f"the sandbox in {layout.root} is starting or stopping right now; try again in a moment")
    began = time.monotonic()
    os.kill(state.supervisor, signal.SIGTERM)
    while layout.running:
        if time.monotonic() - began > _DOWN_SECONDS:
            os.kill(state.supervisor, signal.SIGKILL)  # and the kernel ends the parts
            raise SandboxError(f"the stack did not stop within {_DOWN_SECONDS:.0f} s and was killed")
        time.sleep(_POLL_SECONDS)
    _print(f"Flyteplane stopped after {time.monotonic() - began:.1f} s.")
    return 0


def stop(layout: Layout, part: str) -> int:
    """Stop one part and hold it down until `start` or a new `up`; raise SandboxError when there is no such part."""
    state = _running_state(layout, part)
    (layout.held / part).touch()
    os.kill(state.supervisor, HOLD_SIGNAL)
    _await_part(layout, part, lambda now: now.held and now.pid is None, _DOWN_SECONDS)
    _print(f"{part} is stopped; `start {part}` starts it again.")
    return 0


def start(layout: Layout, part: str) -> int:
    """Start one part that `stop` holds down and wait until it is ready; raise SandboxError when it does not get so."""
    state = _running_state(layout, part)
    (layout.held / part).unlink(missing_ok=True)
    os.kill(state.supervisor, HOLD_SIGNAL)
    _await_part(layout, part, lambda now: now.ready, READY_SECONDS)
    _print(f"{part} is ready.")
    return 0


def _running_state(layout: Layout, part: str) -> State:
    state = State.read(layout)
    if not layout.running or state is None or state.phase != RUNNING:
        raise SandboxError(f"no sandbox is running in {layout.root}")
    if part not in state.parts:
        raise SandboxError(f"there is no part {part!r}; there are: {', '.join(state.parts)}")
    return state


def _await_part(layout: Layout, part: str, condition: Callable[[PartState], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition(_running_state(layout, part).parts[part]):
        if time.monotonic() > end:
            raise SandboxError(f"{part} did not come so far within {seconds:.0f} s; see {layout.logs / part}.log")
        time.sleep(_POLL_SECONDS)


def status(layout: Layout, make_stack: MakeStack) -> int:
    """Print the state, CPU and memory of every part."""
    from deploy.sandbox.cpu import CpuUse  # noqa: PLC0415 - as the next
    from deploy.sandbox.status import table  # noqa: PLC0415 - psutil is slow to import, and no other command needs it

    state = State.read(layout)
    if not layout.running or state is None:
        _print(f"Flyteplane is not running in {layout.root}.{' It was killed.' if state else ''}")
        return NOT_RUNNING
    text, healthy = table(
        state, make_stack(layout, state.all_ports, settings_file.ChosenSettings()), CpuUse(layout.cpu)
    )
    locations = {
        "endpoint": f"localhost:{state.port}",
        "client config": layout.client_config,
        "envoy admin": f"curl --unix-socket {shlex.quote(str(layout.admin_socket))} http://envoy/help",
        "nats monitor": f"http://{state.all_ports.address('nats-monitor')}",
        "environment": f"{layout.environments}/<service>.env",
        "logs": f"{layout.logs}/<part>.log",
    }
    if ENGINE in state.parts:
        locations |= {"tasks": task_line(state), "task logs": f"{layout.engine}/attempts"}
    _print("\n".join((text, *(f"{name:14} {location}" for name, location in locations.items()))))
    return 0 if healthy else UNHEALTHY


def runs(layout: Layout) -> int:
    """Print a line for each run of the engine; raise SandboxError when the sandbox has none."""
    state = State.read(layout)
    if not layout.running or state is None:
        _print(f"Flyteplane is not running in {layout.root}.")
        return NOT_RUNNING
    listed, problem, waits = engine_runs(state)
    _print("\n".join(filter(None, (run_lines(listed), problem, waits))))
    return 0


def logs(layout: Layout, part: str | None, *, lines: int, follow: bool) -> int:
    """Print the end of a part's log, or of all logs; with `follow` go on with new lines."""
    files = sorted(layout.logs.glob("*.log"))
    if part is not None:
        files = [log for log in files if log.stem == part]
    if not files:
        raise SandboxError(f"no log of {part or 'any part'} in {layout.logs}")
    show(files, lines=lines, follow=follow)
    return 0


def reset(layout: Layout) -> int:
    """Stop everything and delete the sandbox; raise SandboxError when the folder is not one."""
    if not layout.root.exists():
        _print(f"There is no sandbox in {layout.root}.")
        return 0
    if not layout.marker.exists():
        raise SandboxError(f"{layout.root} is not a sandbox; nothing was deleted")
    down(layout)
    for folder in layout.elsewhere:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        shutil.rmtree(layout.root)
    except OSError as error:
        raise SandboxError(f"{error.filename} cannot be deleted: {error.strerror}") from error
    _print(f"Deleted {layout.root}.")
    return 0


def _rotate_logs(layout: Layout) -> None:
    for log in layout.logs.glob("*.log"):
        log.replace(log.with_suffix(".log.1"))


def _parser() -> argparse.ArgumentParser:
    everywhere = argparse.ArgumentParser(add_help=False)
    everywhere.add_argument("--dir", default=settings.DIR.read(), help="folder of the sandbox (SANDBOX_DIR)")
    parser = argparse.ArgumentParser(prog="python -m deploy.sandbox", description="Flyteplane on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    start_all = commands.add_parser("up", parents=[everywhere], help="start everything and wait until it is ready")
    start_all.add_argument("--port", type=_port, default=settings.PORT.read(), help="of the gateway (PORT)")
    start_all.add_argument("--foreground", action="store_true", help="stay; Ctrl-C stops everything")
    commands.add_parser("down", parents=[everywhere], help="stop everything")
    stop_part = commands.add_parser("stop", parents=[everywhere], help="stop one part and hold it down")
    stop_part.add_argument("part")
    start_part = commands.add_parser("start", parents=[everywhere], help="start a part that was stopped")
    start_part.add_argument("part")
    commands.add_parser("status", parents=[everywhere], help="what runs; exit code 3 when nothing does")
    commands.add_parser("runs", parents=[everywhere], help="what the engine runs, a line each")
    show_logs = commands.add_parser("logs", parents=[everywhere], help="the logs of the parts")
    show_logs.add_argument("part", nargs="?", help="one part; otherwise all")
    show_logs.add_argument("--follow", "-f", action="store_true", help="go on with what comes")
    show_logs.add_argument("--lines", "-n", type=int, default=20, help="how many lines of each to begin with")
    commands.add_parser("reset", parents=[everywhere], help="stop everything and delete all data")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) not in _PORT_NUMBERS:
        raise argparse.ArgumentTypeError(f"{text!r} is no port number")
    return int(text)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
