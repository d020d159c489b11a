"""GetExecutionMetrics: where the time of an execution went (executions.md section 9)."""

from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.admin.execution_pb2 import WorkflowExecutionGetMetricsRequest, WorkflowExecutionGetMetricsResponse
from flyteidl.admin.workflow_pb2 import WorkflowClosure
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import Identifier, WorkflowExecutionIdentifier
from flyteidl.core.metrics_pb2 import Span
from google.protobuf.message import DecodeError

from services.contracts.identifiers import check_execution_identifier
from services.contracts.registry import LOCATE_WORKFLOW_CLOSURE
from services.executions.rules import lookups
from services.executions.rules.spans.nodes import execution_span
from services.executions.rules.spans.requests import (
    DynamicSpanRequest,
    Found,
    OneSpan,
    Run,
    RunSpanRequest,
    SpanRequest,
    WorkflowSpanRequest,
    run_of,
)
from services.executions.store.execution_trees import large_bytes, read_tree
from services.kit.db.database import Database, snapshot
from services.kit.errors import ResourceExhausted
from services.kit.messaging.bus import Bus
from services.kit.objects.store import ObjectStore, missed
from services.kit.rpc.cpu_pool import CpuPool
from services.kit.rpc.table import Call

# Nodes and attempts of all executions that one answer tells of: some hundred megabytes while it is put together.
MOST_ENTITIES = 50_000
# Of their closures, as far as these are larger than usual. Nothing of what makes them large is in the response.
MOST_LARGE_BYTES = 64 * 1024 * 1024


class ExecutionMetricsHandlers:
    """Puts spans together beside the event loop; what is read and asked for between two steps is read here."""

    def __init__(self, db: Database, bus: Bus, objects: ObjectStore, cpu_pool: CpuPool) -> None:
        self._db = db
        self._bus = bus
        self._objects = objects
        self._cpu_pool = cpu_pool

    async def GetExecutionMetrics(
        self, request: WorkflowExecutionGetMetricsRequest, _call: Call
    ) -> WorkflowExecutionGetMetricsResponse:
        """Answer the tree of spans, `depth` levels deep; raises NotFound, Internal, ResourceExhausted, Unavailable.

        A workflow whose closure is gone is answered without its nodes.
        """
        check_execution_identifier(request.id if request.HasField("id") else None)
        reading = _Reading(self._db, self._cpu_pool)
        run = await reading.run(request.id, with_nodes=request.depth != 0)
        spans = execution_span(run, request.depth)
        wanted, span = await self._cpu_pool.run(_begin, spans)
        while wanted is not None:
            found = await self._found(wanted, reading)
            wanted, span = await self._cpu_pool.run(_go_on, spans, found)
        return WorkflowExecutionGetMetricsResponse(span=span)

    async def _found(self, wanted: SpanRequest, reading: "_Reading") -> Found:
        if isinstance(wanted, RunSpanRequest):
            return await reading.run(wanted.execution, with_nodes=wanted.with_nodes)
        registered = not isinstance(wanted, DynamicSpanRequest)
        uri = await self._place(wanted.id) if isinstance(wanted, WorkflowSpanRequest) else wanted.uri
        content = await self._objects.find(uri, bytes)
        if content is None:
            return None
        try:
            return await self._cpu_pool.run(_compiled, content, registered=registered)
        except DecodeError as error:
            missed(uri, error)
            return None

    async def _place(self, workflow: Identifier) -> str:
        return (await self._bus.request(LOCATE_WORKFLOW_CLOSURE, ObjectGetRequest(id=workflow))).url


class _Reading:
    """Reads executions for one answer, as many entities as it may tell of."""

    def __init__(self, db: Database, cpu_pool: CpuPool) -> None:
        self._db = db
        self._cpu_pool = cpu_pool
        self._left = MOST_ENTITIES
        self._bytes_left = MOST_LARGE_BYTES

    async def run(self, execution: WorkflowExecutionIdentifier, *, with_nodes: bool) -> Run:
        async with self._db.read() as connection, snapshot(connection):
            if with_nodes:
                self._bytes_left -= await large_bytes(connection, execution)
            if self._bytes_left < 0:
                raise ResourceExhausted("the errors and custom information of the nodes and tasks are too large")
            tree = await read_tree(connection, execution, self._left + 1, with_nodes=with_nodes)
        if tree is None:
            raise lookups.missing(execution)
        self._left -= len(tree.nodes) + len(tree.tasks)
        if self._left < 0:
            raise ResourceExhausted(f"more than {MOST_ENTITIES} nodes and tasks; ask for a smaller depth")
        return await self._cpu_pool.run(run_of, execution, *tree)


def _compiled(data: bytes, *, registered: bool) -> CompiledWorkflowClosure:
    """Parse what the registry keeps of a workflow, or what a dynamic node made."""
    if registered:
        return WorkflowClosure.FromString(data).compiled_workflow
    return CompiledWorkflowClosure.FromString(data)


def _begin(spans: OneSpan) -> tuple[SpanRequest | None, Span]:
    try:
        return next(spans), Span()
    except StopIteration as end:
        return None, end.value


def _go_on(spans: OneSpan, found: Found) -> tuple[SpanRequest | None, Span]:
    try:
        return spans.send(found), Span()
    except StopIteration as end:
        return None, end.value
