"""Spans of an execution by the kinds of its nodes (executions.md#getexecutionmetrics); times are seconds."""

from collections.abc import Mapping
from typing import Any

import pytest
from flyteidl.admin.execution_pb2 import ExecutionClosure
from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure, NodeExecutionMetaData
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.core.compiler_pb2 import CompiledWorkflow, CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import Identifier, WorkflowExecutionIdentifier
from flyteidl.core.metrics_pb2 import Span
from flyteidl.core.workflow_pb2 import Node as NodeTemplate
from google.protobuf.message import Message

from services.executions.rules.spans.layouts import MOST_LEVELS, layout
from services.executions.rules.spans.nodes import execution_span
from services.executions.rules.spans.requests import Run, RunSpanRequest, WorkflowSpanRequest
from services.executions.store import execution_trees
from services.kit.errors import NotFound, ResourceExhausted

ALL = -1
TASK: dict[str, Any] = {"task_node": {}}
Tree = tuple[Any, ...]
# node id, spec id, parent's row, created, updated, and other fields of its closure and metadata
Row = tuple[str, str, int | None, int, int, dict[str, Any]]


def seconds(**moments: int) -> dict[str, Any]:
    return {name: {"seconds": moment} for name, moment in moments.items()}


def identifier(name: str) -> Identifier:
    return Identifier(resource_type="WORKFLOW", project="p", domain="d", name=name, version="v")


def execution(name: str = "e") -> WorkflowExecutionIdentifier:
    return WorkflowExecutionIdentifier(project="p", domain="d", name=name)


def workflow(name: str, upstream: Mapping[str, list[str]] | None = None, **nodes: Any) -> CompiledWorkflow:
    templates = [NodeTemplate(id=node.replace("_", "-"), **target) for node, target in nodes.items()]
    edges = upstream if upstream is not None else {"n0": ["start-node"], "end-node": ["n0"]}
    return CompiledWorkflow(
        template={"id": identifier(name), "nodes": templates},
        connections={"upstream": {node: {"ids": ids} for node, ids in edges.items()}},
    )


def run(*rows: Row, name: str = "e", tasks: tuple[tuple[str, int, dict[str, Any]], ...] = (), **ends: int) -> Run:
    times = {"created_at": 0, "updated_at": 100} | ends
    closure = ExecutionClosure(workflow_id=identifier("w"), **seconds(**times))
    nodes = []
    for number, (node_id, spec_id, parent, created, updated, more) in enumerate(rows, 1):
        fields = dict(more)
        metadata = NodeExecutionMetaData(spec_node_id=spec_id, is_parent_node=fields.pop("parent", False))
        dynamic = fields.pop("dynamic", "")
        node = NodeExecutionClosure(**seconds(created_at=created, updated_at=updated), **fields)
        nodes.append((number, node_id, parent, node.SerializeToString(), metadata.SerializeToString(), dynamic))
    attempts = [
        (node, "p", "d", "t", "v", attempt, TaskExecutionClosure(**fields).SerializeToString())
        for node, attempt, fields in tasks
    ]
    rows_read = execution_trees.Tree(closure.SerializeToString(), nodes, attempts)
    return execution_trees.run_of(execution(name), rows_read)


def tree(span: Span) -> Tree:
    """Return name, start and end of a span, and its children."""
    kind = span.WhichOneof("id") or ""
    names = {
        "workflow_id": span.workflow_id.name,
        "node_id": span.node_id.node_id,
        "task_id": f"task {span.task_id.retry_attempt}",
        "operation_id": span.operation_id,
    }
    return (names[kind], span.start_time.seconds, span.end_time.seconds, *map(tree, span.spans))


def built(first: Run, depth: int, known: Mapping[str, Message | Run | None] | None = None, **primary: Any) -> Tree:
    """Build the spans of `first`, whose workflow is `w`; `known` has the results of other requests, by name."""
    results: dict[str, Any] = {"w": CompiledWorkflowClosure(primary=workflow("w", **primary))} | dict(known or {})
    spans = execution_span(first, depth)
    try:
        request = next(spans)
        while True:
            if isinstance(request, RunSpanRequest):
                name = request.execution.name
            elif isinstance(request, WorkflowSpanRequest):
                name = request.id.name
            else:
                name = request.uri
            if name not in results:
                raise NotFound(name)
            result = results[name]
            if not isinstance(request, RunSpanRequest) and isinstance(result, CompiledWorkflowClosure):
                result = layout(result, request.run, request.parent)
            request = spans.send(result)
    except StopIteration as end:
        return tree(end.value)


START: Row = ("start-node", "start-node", None, 1, 2, {})
LAST: Row = ("end-node", "end-node", None, 90, 91, {})
ATTEMPT = seconds(created_at=12, started_at=13, updated_at=20, duration=5)


def one(*spans: Tree) -> Tree:
    """Return the tree of an execution whose only node `n0` runs from 10 to 50 and has `spans` below it."""
    return (
        "e",
        0,
        100,
        ("WORKFLOW_SETUP", 0, 2),
        ("n0", 10, 50, ("NODE_TRANSITION", 2, 10), *spans),
        ("WORKFLOW_TEARDOWN", 50, 100),
    )


def node(row: int | None = None, **more: Any) -> Row:
    return ("n0", "n0", row, 10, 50, more)


def test_depth_zero_has_the_execution_only() -> None:
    assert built(run(START, node(), LAST), 0, n0=TASK) == ("e", 0, 100)


def test_execution_without_a_start_node_has_setup_only() -> None:
    for rows in ((), (node(),), (("start-node", "start-node", None, 1, 0, {}),)):
        assert built(run(*rows), ALL, n0=TASK) == ("e", 0, 100, ("WORKFLOW_SETUP", 0, 100))


def test_depth_one_has_nodes_without_children() -> None:
    assert built(run(START, node(), LAST), 1, n0=TASK) == one()


def test_task_has_setup_attempts_resets_and_teardown() -> None:
    attempts = (
        ("n0", 0, ATTEMPT),
        ("n0", 1, seconds(created_at=22, started_at=23, updated_at=30)),
        ("n0", 2, seconds(created_at=32, updated_at=40)),
    )
    resets = (("NODE_RESET", 20, 22), ("NODE_RESET", 30, 32))
    first = ("task 0", 12, 20, ("TASK_SETUP", 12, 13), ("TASK_RUNTIME", 13, 18), ("TASK_TEARDOWN", 18, 20))
    second = ("task 1", 22, 30, ("TASK_SETUP", 22, 23), ("TASK_RUNTIME", 23, 30))
    third = ("task 2", 32, 40, ("TASK_SETUP", 32, 40))
    ends = ("NODE_SETUP", 10, 12), ("NODE_TEARDOWN", 40, 50)
    rows = run(START, node(), LAST, tasks=attempts)
    whole = one(ends[0], first, resets[0], second, resets[1], third, ends[1])
    assert built(rows, ALL, n0=TASK) == whole
    assert built(rows, 3, n0=TASK) == whole
    assert built(rows, 2, n0=TASK) == one(ends[0], *resets, ends[1])


def test_task_without_attempts_has_setup_only() -> None:
    assert built(run(START, node(), LAST), ALL, n0=TASK) == one(("NODE_SETUP", 10, 50))


def test_span_that_would_end_before_it_starts_is_omitted() -> None:
    late = seconds(created_at=12, started_at=13, updated_at=60, duration=50)
    rows = run(START, node(), LAST, tasks=(("n0", 0, late),), updated_at=49)
    assert built(rows, ALL, n0=TASK) == (
        "e",
        0,
        49,
        ("WORKFLOW_SETUP", 0, 2),
        (
            "n0",
            10,
            50,
            ("NODE_TRANSITION", 2, 10),
            ("NODE_SETUP", 10, 12),
            ("task 0", 12, 60, ("TASK_SETUP", 12, 13), ("TASK_RUNTIME", 13, 63)),
        ),
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [("NODE_SETUP", 10, 50)]),
        (seconds(started_at=12), [("NODE_SETUP", 10, 12), ("NODE_IDLE", 12, 50)]),
        (
            seconds(started_at=12, duration=30),
            [("NODE_SETUP", 10, 12), ("NODE_IDLE", 12, 42), ("NODE_TEARDOWN", 42, 50)],
        ),
    ],
)
def test_gate_has_setup_idle_and_teardown(fields: dict[str, Any], expected: list[Tree]) -> None:
    assert built(run(START, node(**fields), LAST), ALL, n0={"gate_node": {}}) == one(*expected)


BRANCH = {
    "branch_node": {
        "if_else": {
            "case": {"then_node": {"id": "a", "task_node": {}}},
            "other": [{"then_node": {"id": "b", "task_node": {}}}],
            "else_node": {"id": "c", "task_node": {}},
        }
    }
}


@pytest.mark.parametrize("taken", ["a", "b", "c"])
def test_branch_has_the_span_of_the_taken_node(taken: str) -> None:
    child: Row = (f"n0-{taken}", taken, 2, 15, 40, {})
    rows = run(START, node(), LAST, child)
    inside = (("NODE_SETUP", 10, 15), (f"n0-{taken}", 15, 40, ("NODE_SETUP", 15, 40)), ("NODE_TEARDOWN", 40, 50))
    assert built(rows, ALL, n0=BRANCH) == one(*inside)
    assert built(rows, 2, n0=BRANCH) == one(inside[0], inside[1][:3], inside[2])


def test_branch_without_exactly_one_child_has_setup_only() -> None:
    assert built(run(START, node(), LAST), ALL, n0=BRANCH) == one(("NODE_SETUP", 10, 50))
    children: tuple[Row, ...] = tuple((f"n0-{id_}", id_, 2, 15, 40, {}) for id_ in "ab")
    assert built(run(START, node(), LAST, *children), ALL, n0=BRANCH) == one(("NODE_SETUP", 10, 50))


INSIDE: tuple[Row, ...] = (
    ("n0-start", "start-node", 2, 14, 15, {}),
    ("n0-m", "m", 2, 16, 30, {}),
    ("n0-end", "end-node", 2, 31, 32, {}),
)
INNER = workflow("inner", {"m": ["start-node"], "end-node": ["m"]}, m=TASK)
INNER_SPANS = (("n0-m", 16, 30, ("NODE_TRANSITION", 15, 16), ("NODE_SETUP", 16, 30)), ("NODE_TEARDOWN", 30, 50))


def test_sub_workflow_is_found_in_its_parent_else_in_the_registry() -> None:
    target = {"workflow_node": {"sub_workflow_ref": identifier("inner")}}
    rows = run(START, node(), LAST, *INSIDE)
    expected = one(("NODE_SETUP", 10, 15), *INNER_SPANS)
    here = CompiledWorkflowClosure(primary=workflow("w", n0=target), sub_workflows=[INNER])
    assert built(rows, ALL, {"w": here}) == expected
    assert built(rows, ALL, {"inner": CompiledWorkflowClosure(primary=INNER)}, n0=target) == expected
    with pytest.raises(NotFound):
        built(rows, ALL, n0=target)
    assert built(run(START, node(), LAST), ALL, n0=target) == one(("NODE_SETUP", 10, 50))


def test_dynamic_task_has_the_spans_of_its_workflow() -> None:
    attempts = (("n0", 0, seconds(created_at=12, updated_at=13)),)
    made = node(parent=True, dynamic="made.pb")
    begun = (("NODE_SETUP", 10, 12), ("task 0", 12, 13, ("TASK_SETUP", 12, 13)))
    rows = run(START, made, LAST, *INSIDE, tasks=attempts)
    known = {"made.pb": CompiledWorkflowClosure(primary=INNER)}
    assert built(rows, ALL, known, n0=TASK) == one(*begun, ("NODE_RESET", 13, 15), *INNER_SPANS)
    childless = run(START, made, LAST, tasks=attempts)
    assert built(childless, ALL, n0=TASK) == one(*begun, ("NODE_RESET", 13, 50))


def test_a_launch_plan_has_the_spans_of_its_execution() -> None:
    target = {"workflow_node": {"launchplan_ref": identifier("lp")}}
    launched = node(workflow_node_metadata={"executionId": execution("child")})
    child = run(name="child", created_at=11, updated_at=45)
    rows = run(START, launched, LAST)
    ends = ("NODE_SETUP", 10, 11), ("NODE_TEARDOWN", 45, 50)
    assert built(rows, ALL, {"child": child}, n0=target) == one(
        ends[0], ("child", 11, 45, ("WORKFLOW_SETUP", 11, 45)), ends[1]
    )
    assert built(rows, 2, {"child": child}, n0=target) == one(ends[0], ("child", 11, 45), ends[1])
    assert built(run(START, node(), LAST), ALL, n0=target) == one(("NODE_SETUP", 10, 50))
    with pytest.raises(NotFound):
        built(rows, ALL, n0=target)


def test_an_execution_within_itself_ends() -> None:
    target = {"workflow_node": {"launchplan_ref": identifier("lp")}}
    rows = run(START, node(workflow_node_metadata={"executionId": execution("e")}), LAST)
    assert built(rows, ALL, {"e": rows}, n0=target) == one(("NODE_SETUP", 10, 0), ("e", 0, 100))


def test_spans_nested_deeper_than_clients_can_parse_are_refused() -> None:
    target = {"workflow_node": {"launchplan_ref": identifier("lp")}}
    deep: dict[str, Any] = {
        f"x{number}": run(
            START, node(workflow_node_metadata={"executionId": execution(f"x{number + 1}")}), LAST, name=f"x{number}"
        )
        for number in range(MOST_LEVELS)
    }
    with pytest.raises(ResourceExhausted, match="ask for a smaller depth"):
        built(deep["x0"], ALL, deep, n0=target)
    assert built(deep["x0"], 20, deep, n0=target)[0] == "x0"


def test_an_array_has_no_children() -> None:
    assert built(run(START, node(), LAST), ALL, n0={"array_node": {}}) == one()


def test_nodes_are_in_order_of_creation_after_their_latest_upstream() -> None:
    rows = run(
        START,
        ("b", "b", None, 30, 40, {}),
        ("a", "a", None, 5, 20, {}),
        ("c", "c", None, 35, 60, {}),
        LAST,
    )
    upstream = {"a": ["start-node"], "b": ["start-node", "a"], "c": ["a"], "end-node": ["b", "c"]}
    array: dict[str, Any] = {"array_node": {}}
    assert built(rows, ALL, upstream=upstream, a=array, b=array, c=array) == (
        "e",
        0,
        100,
        ("WORKFLOW_SETUP", 0, 2),
        ("a", 5, 20, ("NODE_TRANSITION", 2, 5)),
        ("b", 30, 40, ("NODE_TRANSITION", 20, 30)),
        ("c", 35, 60, ("NODE_TRANSITION", 20, 35)),
        ("WORKFLOW_TEARDOWN", 60, 100),
    )


def test_a_node_that_its_workflow_lacks_has_a_span_without_children() -> None:
    assert built(run(START, node(), LAST), ALL, other=TASK)[4] == ("n0", 10, 50, ("NODE_TRANSITION", 2, 10))
    strange = run(START, node(), LAST, ("n0-x", "x", 2, 15, 40, {}))
    assert built(strange, ALL, n0=BRANCH) == one(("NODE_SETUP", 10, 15), ("n0-x", 15, 40), ("NODE_TEARDOWN", 40, 50))


def test_workflow_without_a_closure_has_no_nodes() -> None:
    assert built(run(START, node(), LAST), ALL, {"w": None}, n0=TASK) == ("e", 0, 100, ("WORKFLOW_SETUP", 0, 2))
    inside: Row = ("n0-start", "start-node", 2, 22, 23, {})
    dynamic = run(START, node(parent=True, dynamic="made"), inside, LAST, tasks=(("n0", 0, ATTEMPT),))
    assert ("NODE_RESET", 20, 23) in built(dynamic, ALL, {"made": None}, n0=TASK)[4]
    reference = {"workflow_node": {"sub_workflow_ref": identifier("sub")}}
    assert built(run(START, node(), inside, LAST), ALL, {"sub": None}, n0=reference) == one(("NODE_SETUP", 10, 23))
