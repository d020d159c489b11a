"""The process of a service: command line, start, readiness, drain, end.

A service's `__main__` calls `main`. Its `app.build` creates all objects, registers those that must be closed on the
given exit stack, and returns an `App`. `python -m services.<name>` serves; `python -m services.<name> migrate` upgrades
the database to the schema of the release. A service may have further commands for operators.
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
from services.kit.rpc.callers import Callers
from services.kit.rpc.fairness import IncompleteRequestLimits
from services.kit.rpc.grpcio_server import GrpcioServer
from services.kit.rpc.http2_server import Http2Server
from services.kit.rpc.table import Table

log = logging.getLogger(__name__)

# Objects created and not freed before the cycle collector runs: some megabytes.
_COLLECTOR_THRESHOLD = 20_000
# The NATS client drops a cancellation while it flushes; a task that continues is cancelled again.
_CANCEL_RETRY_SECONDS = 0.2

AnySettings = TypeVar("AnySettings", bound=ProcessSettings)


@dataclass(frozen=True)
class Connections:
    """The connections of a service: to its database and to NATS."""

    db: Database
    bus: Bus


@dataclass(frozen=True)
class App:
    """The result of building a service: what the process serves and runs."""

    table: Table
    """The methods of the service."""
    services: Sequence[str]
    """Full names of the gRPC services for health checks and reflection: those of the whole system.

    The gateway sends such a request to one process, which responds for all.
    """
    loops: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()
    """Background tasks until the end; one that raises ends the process."""
    routes: Sequence[BaseRoute] = field(default=())
    """HTTP routes in addition to the probes."""
    flush: Sequence[Callable[[], Awaitable[None]]] = ()
    """Called after calls have ended and before connections close, to finish accepted work."""
    checks: Mapping[str, Check] = field(default_factory=dict)
    """Readiness checks in addition to those of every service, by the name of what they check.

    A process is ready if calls would work now, so a service that writes to its database checks that it can write
    (docs/decisions/0021-a-user-of-nats-for-each-service.md).
    """


BuildApp = Callable[[AnySettings, Connections, AsyncExitStack], Awaitable[App]]

# The exit status for an invalid command line, as argparse's.
_USAGE_ERROR = 2


@dataclass(frozen=True)
class Command(Generic[AnySettings]):
    """A command `python -m services.<name> <command>` for operators.

    `run` receives the settings and the arguments after the command's name, prints its findings, returns the exit status
    and may raise a ServiceError. Nothing is logged.
    """

    purpose: str
    run: Callable[[AnySettings, Sequence[str]], Coroutine[Any, Any, int]]


def main(
    name: str,
    settings_class: type[AnySettings],
    build: BuildApp[AnySettings],
    migrations: Path,
    commands: Mapping[str, Command[AnySettings]] = MappingProxyType({}),
) -> None:
    """Run the service `name`, its migrations or one of `commands`, as the command line requests.

    Args:
        name: name of the service.
        settings_class: its settings.
        build: creates the service's objects.
        migrations: folder of its migrations.
        commands: further commands by name.
    """
    command = sys.argv[1:]
    if command and command[0] in commands:
        raise SystemExit(_run_command(commands[command[0]], load(settings_class), command[1:]))
    if command in (["-h"], ["--help"]):
        sys.stdout.write(_usage(name, commands))
        return
    if command not in ([], ["migrate"]):
        sys.stderr.write(_usage(name, commands))
        raise SystemExit(_USAGE_ERROR)
    settings = load(settings_class)
    log_as_json(name, settings.log_level)
    if command:
        log.info("migrated", extra={"version": migrate(settings.database_url, migrations)})
        return
    try:
        uvloop.run(serve(name, settings, build, migrations))
    except ServiceError as error:
        raise SystemExit(f"{name} cannot start: {error.message}") from error


def _run_command(command: Command[AnySettings], settings: AnySettings, arguments: Sequence[str]) -> int:
    # Libraries log on the way to a failure; the error's own message is enough at a terminal.
    logging.disable()
    try:
        return uvloop.run(command.run(settings, arguments))
    except ServiceError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    except BrokenPipeError:
        # The reader of the output has closed it; flushing the buffer at exit must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _usage(name: str, commands: Mapping[str, Command[AnySettings]]) -> str:
    lines = {"": "serve", "migrate": "bring the database to the schema of this release"}
    lines |= {command: spec.purpose for command, spec in commands.items()}
    return "usage:\n" + "".join(
        f"  {f'python -m services.{name} {command}'.rstrip():<40} {purpose}\n" for command, purpose in lines.items()
    )


async def serve(
    name: str,
    settings: AnySettings,
    build: BuildApp[AnySettings],
    migrations: Path,
    until: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or `until`, then drain; raise a ServiceError when a dependency cannot be reached."""
    stopping = until or _stop_signal()
    async with AsyncExitStack() as stack:
        db = await Database.open(settings.database_url, max_size=settings.database_pool_size)
        stack.push_async_callback(db.close)
        await check_schema(db, migrations, name)
        bus = await Bus.connect(settings.nats_url, name, settings.nats_tls)
        stack.push_async_callback(bus.close)
        app = await build(settings, Connections(db, bus), stack)
        _tune_collector()
        await _run(name, settings, app, bus, stopping)


def _tune_collector() -> None:
    """Exclude permanent objects from Python's cycle collector, and let it run less often.

    Serving creates hardly any cycles, but many short-lived objects: with the default threshold of 700 the collector
    runs several times for each batch of events and takes a twentieth of the CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTOR_THRESHOLD)


async def _run(name: str, settings: ProcessSettings, app: App, bus: Bus, stopping: asyncio.Event) -> None:
    async def check_not_stopping() -> None:
        if stopping.is_set():
            raise Unavailable("the process is about to end")

    ready = Readiness({"the process": check_not_stopping, "NATS": bus.check, **app.checks})
    if settings.gateway_secret:
        app.table.identify_callers(Callers(settings.gateway_secret, settings.subject_claims, settings.client_claims))
    servers = _servers(settings, app)
    http_server = HttpServer(settings.http_address, ready, app.routes, settings.request_idle_seconds)
    for server in servers:
        await server.start()
    http = asyncio.create_task(http_server.serve())
    loops = [asyncio.create_task(loop()) for loop in (bus.check_streams_periodically, *app.loops)]
    addresses = {server: getattr(settings, f"{server}_address") for server in ("grpc", "http2", "http")}
    log.info("serving", extra=addresses)
    ended = asyncio.create_task(stopping.wait())
    done, _ = await asyncio.wait([ended, http, *loops], return_when=asyncio.FIRST_COMPLETED)
    stopping.set()
    log.info("draining")
    drained_by = asyncio.get_running_loop().time() + settings.drain_seconds
    await asyncio.gather(*(server.stop(settings.drain_seconds) for server in servers))
    for flush in app.flush:
        await flush()
    http_server.stop(drained_by - asyncio.get_running_loop().time())
    await cancel_all([*loops, ended])
    results = await asyncio.gather(http, *loops, return_exceptions=True)
    log.info("ended", extra={"cause": "asked to" if ended in done else f"a loop or the HTTP server of {name} ended"})
    for result in results:
        if isinstance(result, Exception):
            raise result


async def cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until all of them have ended."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=_CANCEL_RETRY_SECONDS)


def _servers(settings: ProcessSettings, app: App) -> tuple[GrpcioServer, Http2Server]:
    incomplete = IncompleteRequestLimits(settings.max_incomplete_bytes, settings.request_idle_seconds)
    max_message_bytes = settings.max_message_bytes
    return (
        GrpcioServer(app.table, app.services, settings.grpc_address, max_message_bytes, incomplete),
        Http2Server(app.table, settings.http2_address, max_message_bytes, app.services, incomplete),
    )


def _stop_signal() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stopping.set)
    return stopping
