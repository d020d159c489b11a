"""Requests to an engine are read as they were sent."""

from datetime import UTC, datetime

import pytest
from flyteidl.admin.execution_pb2 import ExecutionMetadata, ExecutionSpec
from flyteidl.admin.matchable_resource_pb2 import (
    PluginOverride,
    TaskResourceAttributes,
    TaskResourceSpec,
    WorkflowExecutionConfig,
)
from flyteidl.core.identifier_pb2 import Identifier, ResourceType, WorkflowExecutionIdentifier

from services.contracts.engine import EngineInputs, RunRequest, decode_run, encode_run
from services.kit.errors import InvalidArgument

WORKFLOW = Identifier(resource_type=ResourceType.WORKFLOW, project="p", domain="d", name="w", version="v")
REQUEST = RunRequest(
    id=WorkflowExecutionIdentifier(project="p", domain="d", name="n"),
    workflow_id=WORKFLOW,
    spec=ExecutionSpec(launch_plan=WORKFLOW, metadata=ExecutionMetadata(nesting=2)),
    config=WorkflowExecutionConfig(max_parallelism=3),
    inputs_uri="s3://bucket/ä",
    engine_inputs=EngineInputs(
        task_resources=TaskResourceAttributes(defaults=TaskResourceSpec(cpu="1")),
        queue_tags=("a", "b"),
        plugin_overrides=(PluginOverride(task_type="spark", plugin_id=["x"]),),
        cluster_resources={"quota": "4"},
    ),
    accepted_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    child_queue="fast",
)


def test_run_request_is_read_as_it_was_sent() -> None:
    assert decode_run(encode_run(REQUEST)) == REQUEST


def test_run_request_without_attributes_is_read_as_it_was_sent() -> None:
    plain = RunRequest(
        *(REQUEST.id, WORKFLOW, ExecutionSpec(), WorkflowExecutionConfig(), ""),
        EngineInputs(TaskResourceAttributes()),
        REQUEST.accepted_at,
    )
    assert decode_run(encode_run(plain)) == plain


@pytest.mark.parametrize("data", [b"", b"\x07rest", encode_run(REQUEST)[:-1], encode_run(REQUEST)[:30]])
def test_run_request_of_another_release_or_cut_off_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument, match="a request to run an execution cannot be read"):
        decode_run(data)
