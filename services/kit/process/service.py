"""The life of a service: settings, start, ready, drain, end.

A service's `__main__` is one call of `main`; its `app.build` makes everything by hand, top to bottom, registers what
must be closed on the stack it is given, and answers with an `App`. `python -m services.<name>` serves,
`python -m services.<name> migrate` brings the database to the release's schema. A service may have further commands,
for operators.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import uvloop
from starlette.routing import BaseRoute

from services.kit.db.database import Database
from services.kit.db.migrations import check_schema, migrate
from services.kit.errors import ServiceError, Unavailable
from services.kit.messaging.bus import Bus
from services.kit.process.http_server import HttpServer
from services.kit.process.readiness import Check, Readiness
from services.kit.process.settings import ProcessSettings, load
from services.kit.process.telemetry import log_as_json
from services.kit.rpc.fairness import ArrivalLimits
from services.kit.rpc.grpcio_server import GrpcioServer
from services.kit.rpc.http2_server import Http2Server
from services.kit.rpc.table import Table

log = logging.getLogger(__name__)

# Objects that may be made and not freed before the cycle collector looks for cycles: some megabytes.
_COLLECT_AFTER = 20_000
# The NATS client drops a cancellation that comes while it flushes; who goes on is cancelled again.
_CANCEL_AGAIN_SECONDS = 0.2

Chosen = TypeVar("Chosen", bound=ProcessSettings)


@dataclass(frozen=True)
class Parts:
    """What every service is built on."""

    db: Database
    bus: Bus


@dataclass(frozen=True)
class App:
    """What a service does once it is built."""

    table: Table
    """The methods it serves."""
    services: Sequence[str]
    """Full names of the gRPC services that health checks and reflection may ask for.

    They are those of the whole system: whoever asks through the gateway is answered by one process for all.
    """
    loops: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()
    """What runs beside the calls until the end; a loop that raises ends the process."""
    routes: Sequence[BaseRoute] = field(default=())
    """HTTP routes beside the probes."""
    drain: Sequence[Callable[[], Awaitable[None]]] = ()
    """Run once calls have ended and before connections close: flush what was accepted."""
    checks: Mapping[str, Check] = field(default_factory=dict)
    """What makes the process ready beside NATS, by what is asked."""


Build = Callable[[Chosen, Parts, AsyncExitStack], Awaitable[App]]

# The exit status of a command line that nobody understands, as argparse has it.
_USAGE = 2


@dataclass(frozen=True)
class Command(Generic[Chosen]):
    """What `python -m services.<name> <command>` does beside serving: it takes the arguments after its name.

    It prints its findings, answers the exit status and may raise a ServiceError; nothing is logged.
    """

    purpose: str
    run: Callable[[Chosen, Sequence[str]], Coroutine[Any, Any, int]]


def main(
    name: str,
    settings_class: type[Chosen],
    build: Build[Chosen],
    migrations: Path,
    commands: Mapping[str, Command[Chosen]] = MappingProxyType({}),
) -> None:
    """Run the service `name`, its migrations or one of `commands`; the whole of a service's `__main__`."""
    command = sys.argv[1:]
    if command and command[0] in commands:
        raise SystemExit(_run_command(commands[command[0]], load(settings_class), command[1:]))
    if command in (["-h"], ["--help"]):
        sys.stdout.write(_usage(name, commands))
        return
    if command not in ([], ["migrate"]):
        sys.stderr.write(_usage(name, commands))
        raise SystemExit(_USAGE)
    settings = load(settings_class)
    log_as_json(name, settings.log_level)
    if command:
        log.info("migrated", extra={"version": migrate(settings.database_url, migrations)})
        return
    try:
        uvloop.run(serve(name, settings, build, migrations))
    except ServiceError as error:
        raise SystemExit(f"{name} cannot start: {error.message}") from error


def _run_command(command: Command[Chosen], settings: Chosen, arguments: Sequence[str]) -> int:
    # What libraries say on the way to a failure is told again, in our words, by the failure itself.
    logging.disable()
    try:
        return uvloop.run(command.run(settings, arguments))
    except ServiceError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    except BrokenPipeError:
        # Whoever read the output has seen enough; what is buffered for it must not fail at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _usage(name: str, commands: Mapping[str, Command[Chosen]]) -> str:
    lines = {"": "serve", "migrate": "bring the database to the schema of this release"}
    lines |= {command: described.purpose for command, described in commands.items()}
    return "usage:\n" + "".join(
        f"  {f'python -m services.{name} {command}'.rstrip():<40} {purpose}\n" for command, purpose in lines.items()
    )


async def serve(
    name: str,
    settings: Chosen,
    build: Build[Chosen],
    migrations: Path,
    until: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or `until`, then drain; raises a ServiceError when a part cannot be reached."""
    ending = until or _ended_by_signal()
    async with AsyncExitStack() as stack:
        db = await Database.open(settings.database_url, max_size=settings.database_pool_size)
        stack.push_async_callback(db.close)
        await check_schema(db, migrations, name)
        bus = await Bus.connect(settings.nats_url, name, settings.nats_tls)
        stack.push_async_callback(bus.close)
        app = await build(settings, Parts(db, bus), stack)
        _spare_the_collector()
        await _run(name, settings, app, bus, ending)


def _spare_the_collector() -> None:
    """Keep Python's cycle collector from looking at what stays, and from looking often.

    Serving makes hardly any cycles, but many objects that live for a moment: at the default of 700 the collector runs
    several times for each batch of events and takes a twentieth of the CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)


async def _run(name: str, settings: ProcessSettings, app: App, bus: Bus, ending: asyncio.Event) -> None:
    async def serving() -> None:
        if ending.is_set():
            raise Unavailable("the process is about to end")

    ready = Readiness({"the process": serving, "NATS": bus.check, **app.checks})
    fronts = _fronts(settings, app)
    http_front = HttpServer(settings.http_address, ready, app.routes, settings.request_idle_seconds)
    for front in fronts:
        await front.start()
    http = asyncio.create_task(http_front.serve())
    loops = [asyncio.create_task(loop()) for loop in (bus.keep, *app.loops)]
    addresses = {front: getattr(settings, f"{front}_address") for front in ("grpc", "lean", "http")}
    log.info("serving", extra=addresses)
    ended = asyncio.create_task(ending.wait())
    done, _ = await asyncio.wait([ended, http, *loops], return_when=asyncio.FIRST_COMPLETED)
    ending.set()
    log.info("draining")
    drained_by = asyncio.get_running_loop().time() + settings.drain_seconds
    await asyncio.gather(*(front.stop(settings.drain_seconds) for front in fronts))
    for flush in app.drain:
        await flush()
    http_front.stop(drained_by - asyncio.get_running_loop().time())
    await _cancel([*loops, ended])
    results = await asyncio.gather(http, *loops, return_exceptions=True)
    log.info("ended", extra={"cause": "asked to" if ended in done else f"a part of {name} ended by itself"})
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until all of them have ended."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=_CANCEL_AGAIN_SECONDS)


def _fronts(settings: ProcessSettings, app: App) -> tuple[GrpcioServer, Http2Server]:
    arrivals = ArrivalLimits(settings.max_unfinished_bytes, settings.request_idle_seconds)
    most = settings.max_message_bytes
    return (
        GrpcioServer(app.table, app.services, settings.grpc_address, most, arrivals),
        Http2Server(app.table, settings.lean_address, most, app.services, arrivals),
    )


def _ended_by_signal() -> asyncio.Event:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, ending.set)
    return ending
