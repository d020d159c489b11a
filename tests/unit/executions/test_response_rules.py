"""Answers put together by hand equal those that protobuf would have made."""

from datetime import timedelta

import pytest
from flyteidl.admin.common_pb2 import UrlBlob
from flyteidl.admin.execution_pb2 import (
    Execution,
    ExecutionClosure,
    ExecutionList,
    ExecutionSpec,
    WorkflowExecutionGetDataResponse,
)
from flyteidl.admin.node_execution_pb2 import NodeExecution, NodeExecutionClosure, NodeExecutionMetaData
from flyteidl.admin.task_execution_pb2 import TaskExecution, TaskExecutionClosure, TaskExecutionGetDataResponse
from flyteidl.core.execution_pb2 import WorkflowExecution
from google.protobuf.duration_pb2 import Duration

from services.executions.rules import answers, data, data_proxy
from services.kit.errors import InvalidArgument
from tests.support.entities import DOMAIN, PROJECT, literals
from tests.support.executions import execution_id, node_id, task_id

CLOSURE = ExecutionClosure(phase=WorkflowExecution.RUNNING)
SPEC = ExecutionSpec(max_parallelism=3)
STORED = answers.StoredExecution(
    "x",
    "RUNNING",
    SPEC.SerializeToString(),
    literals(a=1).SerializeToString(),
    CLOSURE.SerializeToString(),
    "",
    failed=False,
)


def test_an_execution_is_its_parts() -> None:
    whole = Execution.FromString(answers.execution(PROJECT, DOMAIN, STORED))
    assert whole == Execution(
        id=execution_id("x"), spec=ExecutionSpec(max_parallelism=3, inputs=literals(a=1)), closure=CLOSURE
    )
    page = answers.page(1, answers.listed_executions(PROJECT, DOMAIN, [STORED] * 2), 2, "2")
    one = Execution(id=execution_id("x"), spec=SPEC, closure=CLOSURE)
    assert ExecutionList.FromString(page) == ExecutionList(executions=[one, one], token="2")


@pytest.mark.parametrize(("children", "dynamic"), [(False, False), (True, False), (True, True)])
def test_a_node_is_its_parts(*, children: bool, dynamic: bool) -> None:
    metadata = NodeExecutionMetaData(spec_node_id="s")
    row = answers.StoredNodeExecution(
        "n0",
        "in",
        closure=NodeExecutionClosure().SerializeToString(),
        metadata=metadata.SerializeToString(),
        failed=False,
        has_children=children,
        has_dynamic_children=dynamic,
    )
    metadata.is_parent_node, metadata.is_dynamic = children, dynamic
    identifier = execution_id("x").SerializeToString()
    found = NodeExecution.FromString(answers.node_execution(identifier, row, listed=True))
    expected = NodeExecution(id=node_id("x", "n0"), input_uri="in", closure=NodeExecutionClosure(), metadata=metadata)
    assert found == expected


@pytest.mark.parametrize("attempt", [0, 300])
def test_a_task_is_its_parts(attempt: int) -> None:
    row = answers.StoredTaskExecution(PROJECT, DOMAIN, "t", "v1", attempt, "", b"", is_parent=True)
    found = TaskExecution.FromString(answers.task_execution(node_id("x", "n0").SerializeToString(), row))
    assert found == TaskExecution(
        id=task_id("x", "n0", attempt=attempt), closure=TaskExecutionClosure(), is_parent=True
    )


@pytest.mark.parametrize(
    ("message", "cut"),
    [("", ""), ("a" * 100, "a" * 100), ("a" * 101, "a" * 100), ("é" * 51, "é" * 50), ("a" + "é" * 50, "a" + "é" * 49)],
)
def test_errors_are_cut_between_characters(message: str, cut: str) -> None:
    assert answers.cut(message) == cut


@pytest.mark.parametrize("kind", [WorkflowExecutionGetDataResponse, TaskExecutionGetDataResponse])
def test_data_is_its_parts(kind: type[WorkflowExecutionGetDataResponse] | type[TaskExecutionGetDataResponse]) -> None:
    blob = UrlBlob(url="u", bytes=3)
    found = kind.FromString(
        data.answer(kind, data.Data(blob, literals(a=1).SerializeToString()), data.Data(blob, None))
    )
    assert found == kind(inputs=blob, outputs=blob, full_inputs=literals(a=1))
    assert not found.HasField("full_outputs")


def test_values_of_events_are_inlined_up_to_the_limit() -> None:
    values = literals(a=1)
    size = values.ByteSize()
    assert data.from_values(values, size + 1).full == values.SerializeToString()
    assert data.from_values(values, size).full is None
    assert data.from_values(values, 0).full == values.SerializeToString()
    assert data.from_values(None, 1).full == b""


@pytest.mark.parametrize(
    ("asked", "life"),
    [
        (None, timedelta(hours=1)),
        (Duration(seconds=60), timedelta(minutes=1)),
        (Duration(seconds=3600), timedelta(hours=1)),
        (Duration(nanos=5000), timedelta(microseconds=5)),
    ],
)
def test_urls_live_as_long_as_asked(asked: Duration | None, life: timedelta) -> None:
    assert data_proxy.life(asked, timedelta(hours=1)) == life


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Duration(seconds=3600, nanos=1), "cannot exceed max allowed expiration"),
        (Duration(seconds=-1), "is invalid"),
        (Duration(seconds=1, nanos=-1), "is invalid"),
        (Duration(nanos=1_000_000_000), "is invalid"),
    ],
)
def test_urls_do_not_live_longer_than_allowed(asked: Duration, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        data_proxy.life(asked, timedelta(hours=1))
