"""One attempt of a task, from `StartTask` to its result.

An attempt waits for the Python of tasks and for its share of the machine, gets a folder, and runs. One whose processes
had ended when this process was restarted has left its end in the folder: its result is read, and it does not run again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from flyteidl.core.execution_pb2 import TaskLog
from flyteidl.core.identifier_pb2 import Identifier, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.security_pb2 import Secret, SecurityContext
from flyteidl.core.tasks_pb2 import TaskTemplate

from deploy.sandbox.engine.graph.inputs import TaskFinished, TaskStarted, TaskWaiting
from deploy.sandbox.engine.graph.interface import StartTask
from deploy.sandbox.engine.tasks import results
from deploy.sandbox.engine.tasks.blobs import DataError, check_raw_output_prefix
from deploy.sandbox.engine.tasks.budget import Budget, Share
from deploy.sandbox.engine.tasks.containers import TaskContainer, UnsupportedTask, container_of
from deploy.sandbox.engine.tasks.data_folders import DataFolders
from deploy.sandbox.engine.tasks.echo import ECHO, echoed
from deploy.sandbox.engine.tasks.environment import (
    MARK,
    Machine,
    NotExecutable,
    array_variables,
    check_executable,
    propeller_variables,
)
from deploy.sandbox.engine.tasks.folders import AttemptFolder, attempt_name, folder_of
from deploy.sandbox.engine.tasks.forks import ForkServer, ServerLost
from deploy.sandbox.engine.tasks.local_paths import with_paths
from deploy.sandbox.engine.tasks.results import Result
from deploy.sandbox.engine.tasks.secrets import SecretMissing, SecretStore
from deploy.sandbox.engine.tasks.task_python import NoTaskPython, TaskPython
from deploy.sandbox.engine.tasks.template import TemplateError, Variables, filled, uses_task_template
from services.kit.errors import ServiceError, Unavailable
from services.kit.objects.store import ObjectStore

# How long a task that is to end may take after SIGTERM; Kubernetes waits 30 s, which is long at a terminal.
GRACE_SECONDS = 5.0
_FAST_COMMAND = "pyflyte-fast-execute"
_FOLDER_OPTION = "--dest-dir"
_TASK_TEMPLATE = "task.pb"
_WAITS_FOR_PYTHON = "the Python environment of tasks is being prepared"
# A shorter wait for the budget is not worth an event.
_REPORTED_WAIT_SECONDS = 3.0


@dataclass(frozen=True)
class RunContext:
    """What the tasks of one execution have in common."""

    execution: WorkflowExecutionIdentifier
    workflow: Identifier
    envs: dict[str, str]
    """The environment of the execution's configuration."""
    security: SecurityContext = field(default_factory=SecurityContext)


Report = Callable[[TaskWaiting | TaskStarted], None]


@dataclass(frozen=True)
class AttemptRunner:
    """Runs attempts as processes of this machine.

    Args:
        nice: added to the niceness of their processes.
        log_url: returns the address of an attempt's log.
    """

    task_python: TaskPython
    machine: Machine
    forks: ForkServer
    budget: Budget
    secrets: SecretStore
    objects: ObjectStore
    folder: Path
    nice: int
    log_url: Callable[[WorkflowExecutionIdentifier, StartTask], str]

    async def run(self, context: RunContext, start: StartTask, report: Report) -> TaskFinished:
        """Run an attempt to its end; when cancelled, end its processes first. Raise Unavailable of the object store."""
        logs: tuple[TaskLog, ...] = (TaskLog(uri=self.log_url(context.execution, start), name="Log"),)
        if start.template.type == ECHO:  # there is no process
            logs = ()
        folder = folder_of(self.folder, context.execution, start.key)
        try:
            result = await self._run(context, start, folder, report, logs)
        except (UnsupportedTask, TemplateError, DataError, NotExecutable) as error:
            result = results.user_error("BadTaskSpecification", str(error))
        except SecretMissing as error:
            result = results.user_error("SecretNotFound", str(error))
        except NoTaskPython as error:
            result = results.system_error("NoTaskPython", str(error))
        except ServerLost as error:
            result = results.system_error("Interrupted", str(error))
        except ServiceError as error:
            if isinstance(error, Unavailable):
                raise
            result = results.user_error("DataUnavailable", f"the data of the task cannot be used: {error.message}")
        return TaskFinished(
            start.key,
            outputs=result.outputs,
            futures=result.futures,
            error=result.error,
            recoverable=result.recoverable,
            deck=result.deck,
            logs=logs,
        )

    async def _run(
        self, context: RunContext, start: StartTask, folder: AttemptFolder, report: Report, logs: tuple[TaskLog, ...]
    ) -> Result:
        if folder.status() is None:
            if start.template.type == ECHO:
                report(TaskStarted(start.key))
                return await self._echo(start)
            await self._process(context, start, folder, report, logs)
        result = await self._result(start, folder)
        folder.clear()
        return result

    async def _process(
        self, context: RunContext, start: StartTask, folder: AttemptFolder, report: Report, logs: tuple[TaskLog, ...]
    ) -> None:
        """Run the process of an attempt to its end."""
        container = container_of(start.template)
        check_raw_output_prefix(self.objects, start.raw_output_prefix)
        if not self.task_python.ready:
            report(TaskWaiting(start.key, _WAITS_FOR_PYTHON))
        await self.task_python.wait()
        share = share_of(start.template, container)
        waits_long = asyncio.get_running_loop().call_later(
            _REPORTED_WAIT_SECONDS, lambda: report(TaskWaiting(start.key, self.budget.reason(share)))
        )
        holder = f"{context.execution.name}/{start.key.node_id}"
        try:
            async with self.budget.taken(share, waits_long.cancel, holder):
                command, env = await self._prepare(context, start, container, folder)
                report(TaskStarted(start.key, logs=logs))
                await self.forks.run(command, env, folder, GRACE_SECONDS, nice=self.nice)
        finally:
            folder.clear()

    async def _echo(self, start: StartTask) -> Result:
        """Store the outputs of a task that runs no process."""
        result = echoed(start.template, start.inputs)
        if result.outputs is not None:
            await self.objects.put(f"{start.output_prefix}/{results.OUTPUTS}", result.outputs.SerializeToString())
        return result

    async def _prepare(
        self, context: RunContext, start: StartTask, container: TaskContainer, folder: AttemptFolder
    ) -> tuple[list[str], dict[str, str]]:
        """Make the folder; return command and environment."""
        await results.clear(self.objects, start.output_prefix)
        folder.make()
        if (data := DataFolders.of(start.template, folder.data)) is not None:
            await data.write(self.objects, start.inputs)
        command = await self._command(context, start, container, folder)
        task = start.template.id
        env = {
            **self.machine.variables(),
            "TMPDIR": str(folder.temporary),
            **propeller_variables(context.execution, context.workflow, task, start.key),
            **container.env,
            **context.envs,
            **array_variables(start.array),
            **self.secrets.provide(_secrets(context, start), folder.secrets),
            MARK: str(folder.root),
        }
        check_executable(command, env)
        with folder.log.open("a", encoding="utf-8") as log:
            if not command[0].startswith("pyflyte-"):
                log.write(f"{results.NOTE}, not in the image {container.image!r}.\n")
        folder.log.chmod(0o600)
        return command, env

    async def _command(
        self, context: RunContext, start: StartTask, container: TaskContainer, folder: AttemptFolder
    ) -> list[str]:
        template_uri = f"{start.output_prefix}/{_TASK_TEMPLATE}"
        if uses_task_template(container.command):
            await self.objects.put(template_uri, start.template.SerializeToString())
        execution = context.execution
        variables = Variables(
            input=await self._input(start, folder),
            output_prefix=start.output_prefix,
            raw_output_prefix=start.raw_output_prefix,
            checkpoint_prefix=start.checkpoint_prefix,
            previous_checkpoint_prefix=start.previous_checkpoint_prefix,
            task_template=template_uri,
            generated_name=f"{execution.name}-{start.key.node_id}-{attempt_name(start.key)}",
            namespace=f"{execution.project}-{execution.domain}",
            inputs=with_paths(start.inputs, self.objects.uri()),
        )
        command = _in_own_folder(filled(container.command, variables))
        data = DataFolders.of(start.template, folder.data)
        return data.in_command(command) if data else command

    async def _input(self, start: StartTask, folder: AttemptFolder) -> str:
        """Return where the task reads its inputs: where they are, or a copy with paths in it."""
        values = LiteralMap.FromString(await self.objects.get(start.input_uri))
        if (changed := with_paths(values, self.objects.uri())) == values:
            return start.input_uri
        folder.inputs.write_bytes(changed.SerializeToString())
        return str(folder.inputs)

    async def _result(self, start: StartTask, folder: AttemptFolder) -> Result:
        if (status := folder.status()) is None:
            return results.system_error("Interrupted", "the processes of the task were killed")
        failure = results.ended_badly(status, start.template.id.name, folder.log)
        data = DataFolders.of(start.template, folder.data)
        # Without the folders the outputs have been stored already, and a kill came before the result was journaled.
        if failure is None and data is not None and data.root.exists():
            failure = await self._store_outputs(start, data)
        return failure or await results.read(self.objects, start.output_prefix, start.template)

    async def _store_outputs(self, start: StartTask, data: DataFolders) -> Result | None:
        """Store what a raw container wrote to its folder of outputs; return the failure if it is not what it should."""
        variables = start.template.interface.outputs.variables
        try:
            outputs = await data.read(self.objects, variables, start.raw_output_prefix)
        except DataError as error:
            return results.user_error("OutputsNotFound", str(error), recoverable=True)
        await self.objects.put(f"{start.output_prefix}/{results.OUTPUTS}", outputs.SerializeToString())
        data.delete()
        return None


def share_of(template: TaskTemplate, container: TaskContainer) -> Share:
    """Return what an attempt takes of the machine.

    An eager task takes nothing: it waits for the executions that it launches, which wait for cores.
    """
    if template.metadata.is_eager:
        return Share(Fraction(0), Fraction(0))
    return Share.of(container.resources)


def _secrets(context: RunContext, start: StartTask) -> list[Secret]:
    return [*start.template.security_context.secrets, *context.security.secrets]


def _in_own_folder(command: list[str]) -> list[str]:
    """Return the command with its code unpacked into the working directory, not into a folder of the image."""
    if command[0] != _FAST_COMMAND or _FOLDER_OPTION not in command:
        return command
    position = command.index(_FOLDER_OPTION) + 1
    if position < len(command) and Path(command[position]).is_absolute():
        return [*command[:position], ".", *command[position + 1 :]]
    return command
