"""Responses put together from serialized parts equal those that protobuf makes, and rules of their data."""

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
from flyteidl.admin.matchable_resource_pb2 import ListMatchableAttributesResponse, MatchingAttributes
from flyteidl.admin.node_execution_pb2 import NodeExecution, NodeExecutionClosure, NodeExecutionMetaData
from flyteidl.admin.task_execution_pb2 import TaskExecution, TaskExecutionClosure, TaskExecutionGetDataResponse
from flyteidl.core.execution_pb2 import WorkflowExecution
from google.protobuf.duration_pb2 import Duration

from services.executions.responses import entities
from services.executions.responses.data import data_fields
from services.executions.rules import data, data_proxy
from services.executions.store.executions import StoredExecution
from services.executions.store.node_executions import StoredNodeExecution
from services.executions.store.task_executions import StoredTaskExecution
from services.kit.errors import InvalidArgument
from tests.support.entities import DOMAIN, PROJECT, literals
from tests.support.executions import execution_id, node_id, task_id

CLOSURE = ExecutionClosure(phase=WorkflowExecution.RUNNING)
SPEC = ExecutionSpec(max_parallelism=3)
STORED = StoredExecution(
    "x",
    "RUNNING",
    SPEC.SerializeToString(),
    literals(a=1).SerializeToString(),
    CLOSURE.SerializeToString(),
    "",
    failed=False,
)


def test_execution_equals_its_parts() -> None:
    whole = Execution.FromString(entities.execution(PROJECT, DOMAIN, STORED))
    assert whole == Execution(
        id=execution_id("x"), spec=ExecutionSpec(max_parallelism=3, inputs=literals(a=1)), closure=CLOSURE
    )
    page = entities.page(1, entities.listed_executions(PROJECT, DOMAIN, [STORED] * 2), 2, "2")
    listed = Execution(id=execution_id("x"), spec=SPEC, closure=CLOSURE)
    assert ExecutionList.FromString(page) == ExecutionList(executions=[listed, listed], token="2")


def test_attributes_replace_an_empty_value_of_the_spec() -> None:
    """A field that is written twice cannot be written as JSON."""
    label = MatchingAttributes(execution_cluster_label={"value": "gpu"})
    attributes = ListMatchableAttributesResponse(configurations=[{"attributes": label}])
    spec = ExecutionSpec(max_parallelism=3, execution_cluster_label={})
    row = STORED._replace(spec=spec.SerializeToString(), attributes=attributes.SerializeToString())
    spec.execution_cluster_label.value = "gpu"
    listed = Execution(id=execution_id("x"), spec=spec, closure=CLOSURE)
    assert list(entities.listed_executions(PROJECT, DOMAIN, [row])) == [listed.SerializeToString()]


@pytest.mark.parametrize(("children", "dynamic"), [(False, False), (True, False), (True, True)])
def test_node_execution_equals_its_parts(*, children: bool, dynamic: bool) -> None:
    metadata = NodeExecutionMetaData(spec_node_id="s")
    row = StoredNodeExecution(
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
    expected = NodeExecution(id=node_id("x", "n0"), input_uri="in", closure=NodeExecutionClosure(), metadata=metadata)
    for stored in (row, row._replace(metadata=metadata.SerializeToString())):  # the event may have had the flags, too
        assert entities.node_execution(identifier, stored, listed=True) == expected.SerializeToString()


@pytest.mark.parametrize("attempt", [0, 300])
def test_task_execution_equals_its_parts(attempt: int) -> None:
    row = StoredTaskExecution(PROJECT, DOMAIN, "t", "v1", attempt, "", b"", is_parent=True)
    response = TaskExecution.FromString(entities.task_execution(node_id("x", "n0").SerializeToString(), row))
    assert response == TaskExecution(
        id=task_id("x", "n0", attempt=attempt), closure=TaskExecutionClosure(), is_parent=True
    )


@pytest.mark.parametrize(
    ("message", "cut"),
    [("", ""), ("a" * 100, "a" * 100), ("a" * 101, "a" * 100), ("é" * 51, "é" * 50), ("a" + "é" * 50, "a" + "é" * 49)],
)
def test_errors_are_cut_between_characters(message: str, cut: str) -> None:
    assert entities.shorten_error(message) == cut


@pytest.mark.parametrize("kind", [WorkflowExecutionGetDataResponse, TaskExecutionGetDataResponse])
def test_data_response_equals_its_parts(
    kind: type[WorkflowExecutionGetDataResponse] | type[TaskExecutionGetDataResponse],
) -> None:
    blob = UrlBlob(url="u", bytes=3)
    inputs, outputs = data.Data(blob, literals(a=1).SerializeToString()), data.Data(blob, None)
    response = kind.FromString(data_fields(kind, inputs, outputs))
    assert response == kind(inputs=blob, outputs=blob, full_inputs=literals(a=1))
    assert not response.HasField("full_outputs")


def test_values_of_events_are_inlined_up_to_the_limit() -> None:
    values = literals(a=1)
    size = values.ByteSize()
    assert data.from_values(values, size + 1).full == values.SerializeToString()
    assert data.from_values(values, size).full is None
    assert data.from_values(values, 0).full == values.SerializeToString()
    assert data.from_values(None, 1).full == b""


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        (None, timedelta(hours=1)),
        (Duration(seconds=60), timedelta(minutes=1)),
        (Duration(seconds=3600), timedelta(hours=1)),
        (Duration(nanos=5000), timedelta(microseconds=5)),
    ],
)
def test_lifetime_is_the_requested_one_else_the_longest(expires_in: Duration | None, lifetime: timedelta) -> None:
    assert data_proxy.lifetime(expires_in, timedelta(hours=1)) == lifetime


@pytest.mark.parametrize(
    ("expires_in", "message"),
    [
        (Duration(seconds=3600, nanos=1), "cannot exceed max allowed expiration"),
        (Duration(seconds=-1), "is invalid"),
        (Duration(seconds=1, nanos=-1), "is invalid"),
        (Duration(nanos=1_000_000_000), "is invalid"),
    ],
)
def test_lifetime_that_is_negative_or_too_long_is_refused(expires_in: Duration, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        data_proxy.lifetime(expires_in, timedelta(hours=1))
