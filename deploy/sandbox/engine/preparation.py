"""From a request to run an execution to its run: what it needs is read, and its journal replayed."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from flyteidl.admin.execution_pb2 import ExecutionMetadata
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap

from deploy.sandbox.engine.cache import TaskCache
from deploy.sandbox.engine.control_plane import ControlPlane
from deploy.sandbox.engine.effects import Effects
from deploy.sandbox.engine.graph import interface
from deploy.sandbox.engine.graph.inputs import Begin
from deploy.sandbox.engine.graph.journal import resume
from deploy.sandbox.engine.journal_file import JournalFile
from deploy.sandbox.engine.run import Run
from deploy.sandbox.engine.run_parts import Progress
from deploy.sandbox.engine.runs import RunFolder
from deploy.sandbox.engine.tasks.attempts import AttemptRunner, RunContext
from deploy.sandbox.engine.tasks.local_paths import as_path
from services.contracts.engine import RunRequest
from services.contracts.task_resources import prepared
from services.kit.errors import Unavailable
from services.kit.objects.store import ObjectStore

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5
# The folder in the object store that flytepropeller has there, too (engine.md#what-flytepropeller-does).
_DATA = ("metadata", "propeller")
_RAW = "data"


@dataclass(frozen=True)
class RunPreparation:
    """Prepares the runs of one engine.

    Args:
        end_of: returns an asyncio.Event that is set when an execution that this engine runs has ended.
    """

    control_plane: ControlPlane
    objects: ObjectStore
    cache: TaskCache
    attempts: AttemptRunner
    end_of: Callable[[WorkflowExecutionIdentifier], asyncio.Event]

    async def prepare(self, request: RunRequest, folder: RunFolder) -> Run:
        """Return the run of a request: from its beginning, or as its journal says.

        Raises:
            grpc.aio.AioRpcError: Its workflow cannot be read.
        """
        closure = await self.control_plane.compiled_workflow(request.workflow_id)
        data_folder = folder.data_folder(request.id)
        graph_run = interface.Run(
            execution=request.id,
            closure=closure,
            inputs=await self._inputs(request.inputs_uri),
            data_prefix=self.objects.uri(*_DATA, data_folder),
            raw_output_prefix=f"{self._raw_outputs(request)}/{data_folder}",
            config=request.config,
            recovers=_reference(request),
            prepare=partial(prepared, platform=request.engine_inputs.task_resources, queue=request.child_queue),
        )
        journal = JournalFile(folder.journal)
        entries = journal.entries()
        if journal.begun_anew:
            log.warning("a run begins anew: other code wrote its journal", extra={"folder": str(folder.root)})
        machine, first = resume(graph_run, entries)
        run = Run(
            machine=machine,
            journal=journal,
            first=first,
            effects=Effects(request, self.control_plane, self.objects, self.cache, self.end_of),
            attempts=self.attempts,
            context=RunContext(
                execution=request.id,
                workflow=request.workflow_id,
                envs={pair.key: pair.value for pair in request.config.envs.values},
                security=request.config.security_context,
            ),
            progress=Progress(request.accepted_at),
            begun_anew=journal.begun_anew,
        )
        if not entries:
            run.put(Begin())
        return run

    async def _inputs(self, uri: str) -> LiteralMap:
        if not uri:
            return LiteralMap()
        while True:
            try:
                return LiteralMap.FromString(await self.objects.get(uri))
            except Unavailable:
                await asyncio.sleep(_RETRY_SECONDS)

    def _raw_outputs(self, request: RunRequest) -> str:
        chosen = request.config.raw_output_data_config.output_location_prefix.rstrip("/")
        return as_path(chosen or self.objects.uri(_RAW))


def _reference(request: RunRequest) -> WorkflowExecutionIdentifier | None:
    metadata = request.spec.metadata
    return metadata.reference_execution if metadata.mode == ExecutionMetadata.RECOVERED else None
