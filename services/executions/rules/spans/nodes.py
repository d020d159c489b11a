"""Spans of an execution and its nodes, by the kind of node (executions.md#execution-span, executions.md#node-span)."""

from collections.abc import Generator
from dataclasses import dataclass, replace

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from flyteidl.core.metrics_pb2 import Span

from services.executions.rules.spans.forms import nanoseconds, operation, operation_if_ordered
from services.executions.rules.spans.layouts import MOST_LEVELS, START, by_spec_id
from services.executions.rules.spans.requests import (
    DynamicSpanRequest,
    LaidOutNode,
    Layout,
    Node,
    OneSpan,
    Run,
    RunSpanRequest,
    SpanRequest,
    SpanResult,
    Spans,
    WorkflowSpanRequest,
)
from services.executions.rules.spans.tasks import gate_spans, task_spans
from services.kit.errors import ResourceExhausted


@dataclass(frozen=True)
class _Position:
    """The position of a node in the tree: its execution, and the keys of the executions above."""

    run: Run
    above: frozenset[tuple[str, str, str]]
    level: int

    def below(self) -> "_Position":
        if self.level >= MOST_LEVELS:
            raise ResourceExhausted("the spans are nested too deep; ask for a smaller depth")
        return replace(self, level=self.level + 1)


def execution_span(
    run: Run, depth: int, above: frozenset[tuple[str, str, str]] = frozenset(), level: int = 0
) -> OneSpan:
    """Build the span of an execution.

    An execution within itself has a span without children, and so has a node that its workflow does not contain.

    Args:
        run: The execution.
        depth: The number of levels; negative for all.
        above: The keys of the executions around it.
        level: The depth of nesting so far.

    Raises:
        ResourceExhausted: The spans are nested deeper than clients can parse.
    """
    closure = run.closure
    span = Span(start_time=closure.created_at, end_time=closure.updated_at, workflow_id=run.id)
    if depth == 0 or _key(run.id) in above:
        return span
    nodes = by_spec_id(run.nodes.get(None, ()))
    start = nodes.get(START)
    if start is None or not nanoseconds(start.closure.updated_at):
        span.spans.append(operation("WORKFLOW_SETUP", closure.created_at, closure.updated_at))
        return span
    layout = yield from _layout(WorkflowSpanRequest(closure.workflow_id, run))
    span.spans.append(operation("WORKFLOW_SETUP", closure.created_at, start.closure.updated_at))
    if layout is None:
        return span
    position = _Position(run, above | {_key(run.id)}, level).below()
    span.spans.extend((yield from _nodes(position, layout, depth - 1)))
    if layout.last is not None:
        span.spans.extend(operation_if_ordered("WORKFLOW_TEARDOWN", layout.last.closure.updated_at, closure.updated_at))
    return span


def _nodes(position: _Position, layout: Layout, depth: int) -> Spans:
    spans = []
    for item in layout.nodes:
        span = yield from _node(position, item, depth)
        if item.before is not None:
            waited = operation("NODE_TRANSITION", item.before.closure.updated_at, item.node.closure.created_at)
            children = [waited, *span.spans]
            del span.spans[:]
            span.spans.extend(children)
        spans.append(span)
    return spans


def _node(position: _Position, item: LaidOutNode, depth: int) -> OneSpan:
    """Build the span of a node; without children if its workflow has no such node, as events may have any node id."""
    node = item.node
    span = Span(start_time=node.closure.created_at, end_time=node.closure.updated_at, node_id=node.id)
    if depth == 0 or not item.kind:
        return span
    below = position.below()
    if item.kind == "branch_node":
        spans = yield from _branch(below, item, depth)
    elif item.kind == "gate_node":
        spans = gate_spans(node.closure)
    elif item.kind == "task_node":
        spans = yield from _task(below, node, depth)
    elif item.kind == "launch_plan":
        spans = yield from _launch_plan(below, node, depth)
    elif item.kind == "sub_workflow":
        spans = yield from _sub_workflow(below, item, depth)
    else:
        spans = []
    span.spans.extend(spans)
    return span


def _branch(position: _Position, item: LaidOutNode, depth: int) -> Spans:
    node = item.node
    if item.inside is None:
        return [_setup(node)]
    (inside,) = item.inside.nodes
    return [
        operation("NODE_SETUP", node.closure.created_at, inside.node.closure.created_at),
        (yield from _node(position, inside, depth - 1)),
        *operation_if_ordered("NODE_TEARDOWN", inside.node.closure.updated_at, node.closure.updated_at),
    ]


def _task(position: _Position, node: Node, depth: int) -> Spans:
    if not node.tasks:
        return [_setup(node)]
    last = max(node.tasks, key=lambda task: nanoseconds(task.closure.created_at)).closure.updated_at
    spans = [
        operation("NODE_SETUP", node.closure.created_at, node.tasks[0].closure.created_at),
        *task_spans(node.tasks, depth - 1),
    ]
    if not node.metadata.is_parent_node:
        return [*spans, *operation_if_ordered("NODE_TEARDOWN", last, node.closure.updated_at)]
    children = by_spec_id(position.run.nodes.get(node.row, ()))
    if START not in children:
        return [*spans, *operation_if_ordered("NODE_RESET", last, node.closure.updated_at)]
    spans.append(operation("NODE_RESET", last, children[START].closure.updated_at))
    if not node.dynamic_uri:  # events may report children without a workflow
        return spans
    layout = yield from _layout(DynamicSpanRequest(node.dynamic_uri, position.run, node.row))
    return spans if layout is None else spans + (yield from _children(position, node, layout, depth))


def _launch_plan(position: _Position, node: Node, depth: int) -> Spans:
    if not node.closure.workflow_node_metadata.HasField("executionId"):
        return [_setup(node)]
    run = yield RunSpanRequest(node.closure.workflow_node_metadata.executionId, with_nodes=depth != 1)
    if not isinstance(run, Run):
        raise TypeError("an execution was requested")
    return [
        operation("NODE_SETUP", node.closure.created_at, run.closure.created_at),
        (yield from execution_span(run, depth - 1, position.above, position.level)),
        *operation_if_ordered("NODE_TEARDOWN", run.closure.updated_at, node.closure.updated_at),
    ]


def _sub_workflow(position: _Position, item: LaidOutNode, depth: int) -> Spans:
    node = item.node
    children = by_spec_id(position.run.nodes.get(node.row, ()))
    if START not in children:
        return [_setup(node)]
    spans = [operation("NODE_SETUP", node.closure.created_at, children[START].closure.updated_at)]
    layout = item.inside
    if layout is None and item.reference is not None:
        layout = yield from _layout(WorkflowSpanRequest(item.reference, position.run, node.row))
    return spans if layout is None else spans + (yield from _children(position, node, layout, depth))


def _children(position: _Position, node: Node, layout: Layout, depth: int) -> Spans:
    spans = yield from _nodes(position, layout, depth - 1)
    if layout.last is not None:
        spans += operation_if_ordered("NODE_TEARDOWN", layout.last.closure.updated_at, node.closure.updated_at)
    return spans


def _layout(request: SpanRequest) -> Generator[SpanRequest, SpanResult, Layout | None]:
    result = yield request
    if isinstance(result, Run):
        raise TypeError("a layout was requested")
    return result


def _setup(node: Node) -> Span:
    return operation("NODE_SETUP", node.closure.created_at, node.closure.updated_at)


def _key(execution: WorkflowExecutionIdentifier) -> tuple[str, str, str]:
    return execution.project, execution.domain, execution.name
