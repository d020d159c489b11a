"""Spans of an execution and its nodes, by the kind of node (executions.md#execution-span, executions.md#node-span)."""

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from flyteidl.core.compiler_pb2 import CompiledWorkflow, CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import Identifier, WorkflowExecutionIdentifier
from flyteidl.core.metrics_pb2 import Span
from flyteidl.core.workflow_pb2 import BranchNode
from flyteidl.core.workflow_pb2 import Node as NodeTemplate

from services.executions.rules.spans.forms import nanoseconds, operation, operation_if_ordered
from services.executions.rules.spans.requests import (
    DynamicSpanRequest,
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

START, END = "start-node", "end-node"
# A client cannot parse messages that are nested more than 100 levels; the response itself is one.
MOST_LEVELS = 95


@dataclass(frozen=True)
class _Position:
    """The position of a node in the tree: its execution, its workflow, and the keys of the executions above."""

    run: Run
    closure: CompiledWorkflowClosure
    workflow: CompiledWorkflow
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
    nodes = _by_spec_id(run.nodes.get(None, ()))
    start = nodes.get(START)
    if start is None or not nanoseconds(start.closure.updated_at):
        span.spans.append(operation("WORKFLOW_SETUP", closure.created_at, closure.updated_at))
        return span
    compiled = yield from _workflow(closure.workflow_id)
    span.spans.append(operation("WORKFLOW_SETUP", closure.created_at, start.closure.updated_at))
    if compiled is None:
        return span
    position = _Position(run, compiled, compiled.primary, above | {_key(run.id)}, level).below()
    span.spans.extend((yield from _nodes(position, nodes, depth - 1)))
    last = _latest_upstream(position.workflow, nodes, END)
    if last is not None:
        span.spans.extend(operation_if_ordered("WORKFLOW_TEARDOWN", last.closure.updated_at, closure.updated_at))
    return span


def _nodes(position: _Position, nodes: Mapping[str, Node], depth: int) -> Spans:
    templates = {template.id: template for template in position.workflow.template.nodes}
    spans = []
    for spec_id, node in sorted(nodes.items(), key=lambda item: nanoseconds(item[1].closure.created_at)):
        if spec_id in {START, END}:
            continue
        span = yield from _node(position, node, templates.get(spec_id), depth)
        before = _latest_upstream(position.workflow, nodes, spec_id)
        if before is not None:
            transition = operation("NODE_TRANSITION", before.closure.updated_at, node.closure.created_at)
            children = [transition, *span.spans]
            del span.spans[:]
            span.spans.extend(children)
        spans.append(span)
    return spans


def _node(position: _Position, node: Node, template: NodeTemplate | None, depth: int) -> OneSpan:
    """Build the span of a node; without children if its workflow has no such node, as events may have any node id."""
    span = Span(start_time=node.closure.created_at, end_time=node.closure.updated_at, node_id=node.id)
    if depth == 0 or template is None:
        return span
    below = position.below()
    target = template.WhichOneof("target")
    if target == "branch_node":
        spans = yield from _branch(below, node, template.branch_node, depth)
    elif target == "gate_node":
        spans = gate_spans(node.closure)
    elif target == "task_node":
        spans = yield from _task(below, node, depth)
    elif target == "workflow_node" and template.workflow_node.WhichOneof("reference") == "launchplan_ref":
        spans = yield from _launch_plan(below, node, depth)
    elif target == "workflow_node":
        spans = yield from _sub_workflow(below, node, template.workflow_node.sub_workflow_ref, depth)
    else:
        spans = []
    span.spans.extend(spans)
    return span


def _branch(position: _Position, node: Node, branch: BranchNode, depth: int) -> Spans:
    children = position.run.nodes.get(node.row, ())
    if len(children) != 1:
        return [_setup(node)]
    (child,) = children
    template = next((node for node in _alternatives(branch) if node.id == child.spec_id), None)
    return [
        operation("NODE_SETUP", node.closure.created_at, child.closure.created_at),
        (yield from _node(position, child, template, depth - 1)),
        *operation_if_ordered("NODE_TEARDOWN", child.closure.updated_at, node.closure.updated_at),
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
    children = _by_spec_id(position.run.nodes.get(node.row, ()))
    if START not in children:
        return [*spans, *operation_if_ordered("NODE_RESET", last, node.closure.updated_at)]
    spans.append(operation("NODE_RESET", last, children[START].closure.updated_at))
    compiled = yield from _dynamic(node)
    if compiled is None:
        return spans
    inside = replace(position, closure=compiled, workflow=compiled.primary)
    return spans + (yield from _children(inside, node, children, depth))


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


def _sub_workflow(position: _Position, node: Node, reference: Identifier, depth: int) -> Spans:
    children = _by_spec_id(position.run.nodes.get(node.row, ()))
    if START not in children:
        return [_setup(node)]
    spans = [operation("NODE_SETUP", node.closure.created_at, children[START].closure.updated_at)]
    closure = position.closure
    workflow = next((sub for sub in closure.sub_workflows if sub.template.id == reference), None)
    if workflow is None:
        result = yield from _workflow(reference)
        if result is None:
            return spans
        closure, workflow = result, result.primary
    inside = replace(position, closure=closure, workflow=workflow)
    return spans + (yield from _children(inside, node, children, depth))


def _children(position: _Position, node: Node, children: Mapping[str, Node], depth: int) -> Spans:
    spans = yield from _nodes(position, children, depth - 1)
    last = _latest_upstream(position.workflow, children, END)
    if last is not None:
        spans += operation_if_ordered("NODE_TEARDOWN", last.closure.updated_at, node.closure.updated_at)
    return spans


def _workflow(identifier: Identifier) -> Generator[SpanRequest, SpanResult, CompiledWorkflowClosure | None]:
    return _closure((yield WorkflowSpanRequest(identifier)))


def _dynamic(node: Node) -> Generator[SpanRequest, SpanResult, CompiledWorkflowClosure | None]:
    if not node.dynamic_uri:  # events may report children without a workflow
        return None
    return _closure((yield DynamicSpanRequest(node.dynamic_uri)))


def _closure(result: SpanResult) -> CompiledWorkflowClosure | None:
    if isinstance(result, Run):
        raise TypeError("a workflow was requested")
    return result


def _setup(node: Node) -> Span:
    return operation("NODE_SETUP", node.closure.created_at, node.closure.updated_at)


def _by_spec_id(nodes: Iterable[Node]) -> dict[str, Node]:
    return {node.spec_id: node for node in nodes}


def _latest_upstream(workflow: CompiledWorkflow, nodes: Mapping[str, Node], spec_id: str) -> Node | None:
    upstream = workflow.connections.upstream
    if spec_id not in upstream:
        return None
    executed = [nodes[node_id] for node_id in upstream[spec_id].ids if node_id in nodes]
    return max(executed, key=lambda node: nanoseconds(node.closure.updated_at), default=None)


def _alternatives(branch: BranchNode) -> Iterator[NodeTemplate]:
    if_else = branch.if_else
    yield if_else.case.then_node
    yield from (block.then_node for block in if_else.other)
    yield if_else.else_node


def _key(execution: WorkflowExecutionIdentifier) -> tuple[str, str, str]:
    return execution.project, execution.domain, execution.name
