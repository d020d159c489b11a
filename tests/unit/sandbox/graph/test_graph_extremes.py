"""Every execution ends, whatever extreme values a workflow has that the compiler accepts."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flyteidl.core.condition_pb2 import ComparisonExpression
from flyteidl.core.execution_pb2 import ExecutionError, WorkflowExecution
from flyteidl.core.literals_pb2 import Primitive
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.core.workflow_pb2 import GateNode, Node, SleepCondition
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from deploy.sandbox.engine.graph.durations import bounded
from deploy.sandbox.engine.graph.inputs import Abort
from deploy.sandbox.engine.graph.interface import Run, TaskKey
from deploy.sandbox.engine.graph.journal import read_line, resume
from deploy.sandbox.engine.graph.node_ids import path_name
from tests.support.engine_graphs import LIST, branch_node, map_node, node, run_of, task, workflow
from tests.support.graph_player import HANGS, Failure, Player, World, played
from tests.support.literals import to_literals

# The largest that protobuf specifies, and the largest that fits.
LONGEST, LARGEST = 315_576_000_000, 2**63 - 1
SECONDS = st.sampled_from((0, 1, -1, LONGEST, -LONGEST, LARGEST, -LARGEST))
NANOS = st.sampled_from((0, 1, -1, 2**31 - 1, -(2**31)))
DURATIONS = st.builds(Duration, seconds=SECONDS, nanos=NANOS)
RATIOS = st.sampled_from((0.0, 0.1, 1.0, 1.5, -1.0, 3e38, -3e38, float("inf"), float("-inf"), float("nan")))
NAMES = st.sampled_from(("n", "..", ".", "/x", "a/../../b", "a\nb", "%2e", " ", "é", "x" * 1000, "a:b?c#d"))
PRIMITIVES = st.sampled_from(
    (
        *(Primitive(), Primitive(integer=-LARGEST), Primitive(float_value=float("nan")), Primitive(boolean=True)),
        *(Primitive(string_value=""), Primitive(datetime=Timestamp(seconds=LARGEST, nanos=-1))),
        Primitive(duration=Duration(seconds=-LARGEST)),
    )
)


def sleep_node(node_id: str, duration: Duration, timeout: Duration | None = None) -> Node:
    gate = GateNode(sleep=SleepCondition(duration=duration))
    result = Node(id=node_id, gate_node=gate)
    result.metadata.timeout.CopyFrom(timeout or Duration())
    return result


def condition_run(operator: int, left: Primitive, right: Primitive) -> Run:
    """Return the run of a branch whose only condition compares two constants."""
    branch = branch_node("b", [(0, node("then", "t"))], "no")
    comparison = branch.branch_node.if_else.case.condition.comparison
    comparison.operator = operator  # type: ignore[assignment]
    comparison.left_value.primitive.CopyFrom(left)
    comparison.right_value.primitive.CopyFrom(right)
    return run_of(workflow("w", [branch]), [task("t")])


def array_run(size: int, **options: Any) -> Run:
    mapped = task("t", {"a": LIST}, {"o0": LIST})
    template = workflow("w", [map_node("n0", "t", **options)], inputs={"n": LIST})
    return run_of(template, [mapped], to_literals({"n": list(range(size))}))


@given(name=NAMES, sleep=DURATIONS, timeout=DURATIONS, fails=st.booleans())
def test_execution_with_extreme_names_and_durations_ends(
    name: str, sleep: Duration, timeout: Duration, fails: bool
) -> None:
    last = node(f"{name}t", "t", timeout=timeout)
    template = workflow("w", [sleep_node(name, sleep, timeout), last])
    world, finish = played(run_of(template, [task("t")]), {"t": lambda _: Failure()} if fails else {})
    assert finish.error is None or finish.error.code != "EngineFailed"
    for uri in world.objects:
        *_, folder = uri.removeprefix("mem://metadata/propeller/p-d-e/").removesuffix("/inputs.pb").split("/data")
        assert ".." not in uri.split("/"), (uri, folder)


@given(operator=st.sampled_from(ComparisonExpression.Operator.values()), operand=PRIMITIVES)
def test_execution_with_extreme_operands_ends(operator: int, operand: Primitive) -> None:
    _, finish = played(condition_run(operator, operand, operand))
    assert finish.error is None or finish.error.code != "EngineFailed"


@given(ratio=RATIOS, size=st.integers(0, 3), fails=st.booleans())
def test_array_with_an_extreme_ratio_ends(ratio: float, size: int, fails: bool) -> None:
    run = array_run(size, min_success_ratio=ratio)
    _, finish = played(run, {"t": lambda _: Failure()} if fails else {})
    assert finish.error is None or finish.error.code != "EngineFailed"


@pytest.mark.parametrize(
    ("ratio", "ends_as"),
    [
        (float("nan"), "SUCCEEDED"),
        (float("inf"), "FAILED"),
        (3e38, "FAILED"),
        (1.5, "FAILED"),
        (1.0, "SUCCEEDED"),
    ],
)
def test_array_needs_as_many_successes_as_its_ratio_says(ratio: float, ends_as: str) -> None:
    _, finish = played(array_run(2, min_success_ratio=ratio))
    assert WorkflowExecution.Phase.Name(finish.phase) == ends_as
    if finish.error is not None:
        assert "more successes are required than there are items" in finish.error.message


def test_branch_over_operands_without_a_value_fails_the_branch() -> None:
    _, finish = played(condition_run(ComparisonExpression.GT, Primitive(), Primitive()))
    assert finish.error is not None
    assert finish.error.code == "MalformedBranchUserError"
    assert finish.error.message == "Comparator not defined for type: [nil]"


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (Duration(seconds=1, nanos=500_000_000), timedelta(seconds=1.5)),
        (Duration(seconds=-5), timedelta(0)),
        (Duration(nanos=-5), timedelta(0)),
        (Duration(seconds=LARGEST), timedelta(days=365_250)),
    ],
)
def test_duration_is_bounded(duration: Duration, expected: timedelta) -> None:
    assert bounded(duration) == expected
    assert datetime(2026, 1, 1, tzinfo=UTC) + 2 * bounded(duration) < datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize("name", ["n0", "start-node", "f1-0-n2", "My_Node.1", "x" * 200])
def test_ordinary_node_id_is_its_own_path_name(name: str) -> None:
    assert path_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\nb", "a\n", "é", "%2E", "x" * 201, "node.x/"])
def test_other_node_id_is_hashed_in_paths(name: str) -> None:
    found = path_name(name)
    assert found.startswith("node.")
    assert found == path_name(found)
    assert found != path_name(f"{name}/")


# ---- Faults of the engine


def broken(template: TaskTemplate) -> TaskTemplate:
    """Fail as a fault of the state machine would, for one task."""
    if template.id.name == "broken":
        raise OverflowError("date value out of range")
    return template


def broken_run() -> Run:
    template = workflow("w", [node("n0", "t"), node("n1", "one"), node("n2", "broken", "n1")])
    return run_of(template, [task("t"), task("one"), task("broken")], prepare=broken)


def test_fault_of_the_state_machine_fails_the_execution_and_ends_its_tasks() -> None:
    world, finish = played(broken_run(), {"t": lambda _: HANGS})
    assert finish.phase == WorkflowExecution.FAILED
    assert finish.error is not None
    assert (finish.error.code, finish.error.kind) == ("EngineFailed", ExecutionError.SYSTEM)
    assert finish.error.message.startswith("the engine cannot run this execution, by a fault of its own;")
    assert world.cancelled == [TaskKey("n0")]


def test_failed_execution_is_the_same_after_a_restart() -> None:
    world, finish = played(broken_run(), {"t": lambda _: HANGS})
    execution, first = resume(broken_run(), [read_line(text) for text in world.journal])
    assert first == [finish]
    assert execution.wake_at is None


def test_execution_of_a_fault_can_be_aborted_before() -> None:
    run = broken_run()
    player = Player(run, World({name: lambda _: HANGS for name in ("t", "one", "broken")}))
    player.play_until("n0/0 RUNNING v0")
    player.feed(Abort("enough"))
    finish = player.play()
    assert finish is not None
    assert finish.phase == WorkflowExecution.ABORTED
