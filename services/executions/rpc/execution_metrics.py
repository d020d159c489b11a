"""GetExecutionMetrics (executions.md#getexecutionmetrics)."""

from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.admin.execution_pb2 import WorkflowExecutionGetMetricsRequest, WorkflowExecutionGetMetricsResponse
from flyteidl.admin.workflow_pb2 import WorkflowClosure
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import Identifier, WorkflowExecutionIdentifier
from flyteidl.core.metrics_pb2 import Span
from google.protobuf.message import DecodeError

from services.contracts.authorization.authorizer import Authorizer
from services.contracts.identifiers import check_execution_identifier
from services.contracts.registry import LOCATE_WORKFLOW_CLOSURE
from services.executions.rules.errors import missing
from services.executions.rules.spans.layouts import layout
from services.executions.rules.spans.nodes import execution_span
from services.executions.rules.spans.requests import (
    DynamicSpanRequest,
    Layout,
    OneSpan,
    Run,
    RunSpanRequest,
    SpanRequest,
    SpanResult,
    WorkflowSpanRequest,
)
from services.executions.store.execution_trees import large_bytes, read_tree, run_of
from services.kit.db.database import Database, snapshot
from services.kit.errors import ResourceExhausted
from services.kit.messaging.bus import Bus
from services.kit.objects.store import ObjectStore, report_lost_object
from services.kit.rpc.cpu_pool import CpuPool
from services.kit.rpc.fairness import FairSemaphore, current_client_connection
from services.kit.rpc.table import Call

# Nodes and attempts of all executions in one response: some hundred megabytes while it is built.
MOST_ENTITIES = 50_000
# Bytes of their closures, and of those of workflows, beyond the usual size of each. The response contains nothing of
# what makes a closure large.
MOST_LARGE_BYTES = 64 * 1024 * 1024
# The usual size of a workflow's closure.
_USUAL_CLOSURE_BYTES = 64 * 1024
# Calls that are served at the same time, one of a client connection: their trees are the largest things in memory.
_CALLS = 2


class ExecutionMetricsHandlers:
    """The RPC for spans. They are built in the CPU pool, step by step; the reads between two steps are done here."""

    def __init__(
        self, db: Database, bus: Bus, objects: ObjectStore, cpu_pool: CpuPool, authorizer: Authorizer | None = None
    ) -> None:
        self._db = db
        self._bus = bus
        self._authorizer = authorizer
        self._objects = objects
        self._cpu_pool = cpu_pool
        self._calls = FairSemaphore(_CALLS, 1)

    async def GetExecutionMetrics(
        self, request: WorkflowExecutionGetMetricsRequest, call: Call
    ) -> WorkflowExecutionGetMetricsResponse:
        """Return the tree of spans, `depth` levels deep; the span of a workflow without a closure has no nodes.

        Raises:
            NotFound: The execution or a workflow is missing.
            ResourceExhausted: The tree has more than MOST_ENTITIES nodes and attempts, closures with more than
                MOST_LARGE_BYTES together, or too many levels for clients.
            PermissionDenied: The caller may not read the project-domain of an execution that the tree contains.
            ServiceError: The database, the object store or the registry failed.
        """
        check_execution_identifier(request.id if request.HasField("id") else None)
        async with self._calls.slot(current_client_connection()):
            return WorkflowExecutionGetMetricsResponse(span=await self._span(request, call))

    async def _span(self, request: WorkflowExecutionGetMetricsRequest, call: Call) -> Span:
        reading = _Reading(self._db, self._cpu_pool)
        run = await reading.run(request.id, with_nodes=request.depth != 0)
        spans = execution_span(run, request.depth)
        needed, span = await self._cpu_pool.run(_begin, spans)
        while needed is not None:
            result = await self._result(needed, reading, call)
            needed, span = await self._cpu_pool.run(_go_on, spans, result)
        return span

    async def _result(self, needed: SpanRequest, reading: "_Reading", call: Call) -> SpanResult:
        if isinstance(needed, RunSpanRequest):
            if self._authorizer is not None:  # events name the executions that nodes have launched, of any project
                self._authorizer.check_readable(call.caller, needed.execution.project, needed.execution.domain)
            return await reading.run(needed.execution, with_nodes=needed.with_nodes)
        uri = await self._closure_uri(needed.id) if isinstance(needed, WorkflowSpanRequest) else needed.uri
        content = await self._objects.find(uri, bytes)
        if content is None:
            return None
        reading.add_closure(len(content))
        try:
            return await self._cpu_pool.run(_layout, content, needed)
        except DecodeError as error:
            report_lost_object(uri, error)
            return None

    async def _closure_uri(self, workflow: Identifier) -> str:
        return (await self._bus.request(LOCATE_WORKFLOW_CLOSURE, ObjectGetRequest(id=workflow))).url


class _Reading:
    """Reads of executions for one response, limited to MOST_ENTITIES and MOST_LARGE_BYTES."""

    def __init__(self, db: Database, cpu_pool: CpuPool) -> None:
        self._db = db
        self._cpu_pool = cpu_pool
        self._remaining = MOST_ENTITIES
        self._remaining_bytes = MOST_LARGE_BYTES

    def add_closure(self, size: int) -> None:
        """Count the bytes of a workflow's closure."""
        self._remaining_bytes -= max(size - _USUAL_CLOSURE_BYTES, 0)
        if self._remaining_bytes < 0:
            raise ResourceExhausted("the workflows of the execution are too large; ask for a smaller depth")

    async def run(self, execution: WorkflowExecutionIdentifier, *, with_nodes: bool) -> Run:
        async with self._db.read() as connection, snapshot(connection):
            if with_nodes:
                self._remaining_bytes -= await large_bytes(connection, execution)
            if self._remaining_bytes < 0:
                raise ResourceExhausted("the errors and custom information of the nodes and tasks are too large")
            tree = await read_tree(connection, execution, self._remaining + 1, with_nodes=with_nodes)
        if tree is None:
            raise missing(execution)
        self._remaining -= len(tree.nodes) + len(tree.tasks)
        if self._remaining < 0:
            raise ResourceExhausted(f"more than {MOST_ENTITIES} nodes and tasks; ask for a smaller depth")
        return await self._cpu_pool.run(run_of, execution, tree)


def _layout(data: bytes, needed: WorkflowSpanRequest | DynamicSpanRequest) -> Layout:
    """Parse the closure of a registered workflow or a dynamic node; return what the spans need of it."""
    if isinstance(needed, WorkflowSpanRequest):
        closure = WorkflowClosure.FromString(data).compiled_workflow
    else:
        closure = CompiledWorkflowClosure.FromString(data)
    return layout(closure, needed.run, needed.parent)


def _begin(spans: OneSpan) -> tuple[SpanRequest | None, Span]:
    try:
        return next(spans), Span()
    except StopIteration as end:
        return None, end.value


def _go_on(spans: OneSpan, result: SpanResult) -> tuple[SpanRequest | None, Span]:
    try:
        return spans.send(result), Span()
    except StopIteration as end:
        return None, end.value
