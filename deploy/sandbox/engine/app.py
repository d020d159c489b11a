"""Construction of the engine and its life: everything is made here, by hand, top to bottom."""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import time
from contextlib import AsyncExitStack
from functools import partial

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from deploy.sandbox.engine.cache import TaskCache
from deploy.sandbox.engine.consumers import EngineRequests
from deploy.sandbox.engine.control_plane import ControlPlane, open_channel
from deploy.sandbox.engine.effects import owner_prefix
from deploy.sandbox.engine.event_sender import report_end
from deploy.sandbox.engine.pages import Pages, log_url
from deploy.sandbox.engine.path_parts import path_part
from deploy.sandbox.engine.preparation import RunPreparation
from deploy.sandbox.engine.runs import Ends, Runs
from deploy.sandbox.engine.settings import EngineSettings
from deploy.sandbox.engine.tasks.attempts import AttemptRunner
from deploy.sandbox.engine.tasks.budget import Budget
from deploy.sandbox.engine.tasks.environment import Machine
from deploy.sandbox.engine.tasks.folders import clear_ended, delete_older
from deploy.sandbox.engine.tasks.forks import ForkServer, ServerLost
from deploy.sandbox.engine.tasks.machine_size import machine_share
from deploy.sandbox.engine.tasks.secrets import SecretStore
from deploy.sandbox.engine.tasks.task_python import NoTaskPython, TaskPython
from services.kit.messaging.bus import Bus
from services.kit.objects.store import ObjectStore
from services.kit.process.http_server import HttpServer
from services.kit.process.readiness import Readiness

log = logging.getLogger(__name__)

NAME = "engine"
# A log is followed for as long as its task runs: six times this at most (`HttpServer`).
_FOLLOWED_SECONDS = 4 * 3600.0
_HTTP_END_SECONDS = 1.0
# Logs of tasks are deleted at the first start after so many seconds without a change of their execution.
_LOGS_SECONDS = 14 * 24 * 3600.0


async def serve(settings: EngineSettings) -> None:
    """Run until SIGTERM or SIGINT; then end the tasks' processes, and leave the runs to the next start."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        bus = await Bus.connect(settings.nats_url, NAME)
        stack.push_async_callback(bus.close)
        channel = open_channel(settings.gateway, settings.token_key)
        stack.push_async_callback(channel.close, None)
        control_plane = ControlPlane(channel)
        objects = ObjectStore.open(settings.objects_url, "", "")
        task_python = _task_python(settings)
        machine = Machine(task_python.python, settings.gateway, settings.client_config, os.environ)
        temporary = settings.folder / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(mode=0o700)
        server_env = {**machine.variables(), "TMPDIR": str(temporary)}
        forks = ForkServer(task_python.python, server_env, settings.folder / "fork_server.log", warm=settings.warm)
        stack.push_async_callback(forks.close)
        budget = Budget(machine_share(settings.cores, settings.memory_bytes))
        attempts = AttemptRunner(
            task_python=task_python,
            machine=machine,
            forks=forks,
            budget=budget,
            nice=settings.nice,
            secrets=SecretStore(settings.secrets_folder, os.environ),
            objects=objects,
            folder=settings.folder / "attempts",
            log_url=partial(log_url, f"http://localhost:{settings.http_address.rpartition(':')[2]}"),
        )
        cache = TaskCache(objects, settings.folder / "reservations")
        ends = Ends()
        preparation = RunPreparation(control_plane, objects, cache, attempts, ends.of)
        runs = Runs(
            settings.folder / "runs",
            make=preparation.prepare,
            cause_of=partial(_cause, control_plane),
            report_end=partial(report_end, control_plane.send),
            released=lambda execution: cache.release_all(owner_prefix(execution)),
            ends=ends,
        )
        stack.push_async_callback(runs.close)
        background = asyncio.create_task(_prepare_python(task_python, forks))
        stack.callback(background.cancel)
        runs.resume()
        kept = {tuple(map(path_part, key)) for key in runs.active}
        await asyncio.to_thread(delete_older, settings.folder / "attempts", time.time() - _LOGS_SECONDS, kept)
        await asyncio.to_thread(clear_ended, settings.folder / "attempts", kept)
        await EngineRequests(runs).listen(bus)
        ready = Readiness({"NATS": bus.check})
        routes = Pages(runs, settings.folder / "attempts", task_python.state, budget.first_reason).routes
        http_server = HttpServer(settings.http_address, ready, routes, _FOLLOWED_SECONDS)
        http = asyncio.create_task(http_server.serve())
        log.info("serving", extra={"http": settings.http_address})
        await asyncio.wait([http, asyncio.create_task(stopping.wait())], return_when=asyncio.FIRST_COMPLETED)
        http_server.stop(_HTTP_END_SECONDS)
        await runs.close()
        await http


async def _prepare_python(task_python: TaskPython, forks: ForkServer) -> None:
    """Make the Python of tasks ready, and the fork server, so that the first task finds both."""
    await task_python.prepare()
    with contextlib.suppress(NoTaskPython, ServerLost):  # the first task reports it
        await task_python.wait()
        await forks.start()


async def _cause(control_plane: ControlPlane, execution: WorkflowExecutionIdentifier) -> str:
    cause: str = (await control_plane.execution(execution)).closure.abort_metadata.cause
    return cause


def _task_python(settings: EngineSettings) -> TaskPython:
    return TaskPython(
        settings.task_python, settings.task_environment, settings.task_lock, settings.folder / "task_python.log"
    )
