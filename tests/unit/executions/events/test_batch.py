"""The fold of a batch: a refusal does not affect the others, and later events see the effects of earlier ones."""

from dataclasses import replace

import pytest
from flyteidl.admin.event_pb2 import EventFailureReason
from flyteidl.admin.execution_pb2 import ExecutionSpec
from flyteidl.core.execution_pb2 import NodeExecution, TaskExecution, WorkflowExecution
from flyteidl.event.event_pb2 import (
    ParentNodeExecutionMetadata,
    ParentTaskExecutionMetadata,
    WorkflowNodeMetadata,
)

from services.contracts.event_batches import BatchedEvent, Kind
from services.executions.rules.events.batch import Changes, Event, read_event, rows_needed
from services.executions.rules.events.state import ExecutionKey
from services.kit.errors import AlreadyExists, Code, InvalidArgument, NotFound, ServiceError
from tests.support.event_makers import (
    EXECUTION,
    EXECUTION_KEY,
    NODE_KEY,
    TASK,
    TASK_KEY,
    execution_state,
    node_event,
    task_event,
    workflow_event,
)
from tests.support.event_memory import Memory


def codes(changes: Changes) -> list[str]:
    return ["OK" if verdict is None else verdict.code.name for verdict in changes.outcomes]


def test_a_batch_applies_a_whole_execution() -> None:
    events: list[Event] = [
        workflow_event("RUNNING", 1),
        node_event("QUEUED", 2),
        task_event("QUEUED", 3),
        node_event("RUNNING", 4),
        task_event("RUNNING", 5),
        task_event("SUCCEEDED", 6),
        node_event("SUCCEEDED", 7),
        workflow_event("SUCCEEDED", 8),
    ]
    memory = Memory()
    changes = memory.take(events)
    assert codes(changes) == ["OK"] * len(events)
    assert memory.rows.executions[EXECUTION_KEY].closure.phase == WorkflowExecution.SUCCEEDED
    assert [node.closure.phase for node in changes.new_nodes.values()] == [NodeExecution.SUCCEEDED]
    assert [task.closure.phase for task in changes.new_tasks.values()] == [TaskExecution.SUCCEEDED]
    assert not changes.nodes
    assert not changes.tasks


def test_a_verdict_does_not_hold_its_event_in_memory() -> None:
    memory = Memory()
    memory.take([node_event("QUEUED"), node_event("RUNNING")])
    (verdict,) = memory.take([node_event("RUNNING")]).outcomes
    assert isinstance(verdict, AlreadyExists)
    assert verdict.__traceback__ is None


def test_a_bad_event_does_not_affect_the_others() -> None:
    unreadable = read_event(BatchedEvent(Kind.NODE, b"\xff"))
    assert isinstance(unreadable, InvalidArgument)
    changes = Memory().take([node_event("QUEUED"), unreadable, node_event("QUEUED", None, "n1"), node_event("RUNNING")])
    assert codes(changes) == ["OK", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "OK"]
    assert [node.key.node_id for node in changes.new_nodes.values()] == ["n0"]


def test_an_unforeseen_failure_is_internal_and_has_its_cause() -> None:
    broken = node_event("QUEUED", node="n1")
    broken.phase = 99  # type: ignore[assignment]  # the wire allows any number
    memory = Memory()
    memory.take([node_event("QUEUED", node="n1")])
    changes = memory.take([broken, node_event("QUEUED")])
    assert codes(changes) == ["INTERNAL", "OK"]
    assert isinstance(changes.outcomes[0], ServiceError)
    assert isinstance(changes.outcomes[0].__cause__, KeyError)


@pytest.mark.parametrize(
    "event",
    [
        workflow_event("RUNNING", name="unknown"),
        node_event("RUNNING", name="unknown"),
        task_event("RUNNING", name="unknown"),
        task_event("RUNNING", node="unknown"),
        node_event("RUNNING", parent_node_metadata=ParentNodeExecutionMetadata(node_id="unknown")),
        node_event(
            "RUNNING",
            parent_task_metadata=ParentTaskExecutionMetadata(
                id={"task_id": TASK, "node_execution_id": {"node_id": "unknown", "execution_id": EXECUTION}}
            ),
        ),
    ],
)
def test_an_event_with_a_missing_parent_is_not_found(event: Event) -> None:
    changes = Memory().take([event])
    assert codes(changes) == ["NOT_FOUND"]
    assert changes == Changes(changes.outcomes)


def test_an_incomplete_parent_task_is_an_invalid_argument() -> None:
    """Also if the parent node is missing: NOT_FOUND would end the execution (events.md#reactions-of-the-engine)."""
    task = ParentTaskExecutionMetadata(id={"task_id": TASK})
    node = ParentNodeExecutionMetadata(node_id="unknown")
    events: list[Event] = [
        node_event("RUNNING", parent_task_metadata=task),
        node_event("RUNNING", parent_task_metadata=task, parent_node_metadata=node),
    ]
    assert codes(Memory().take(events)) == ["INVALID_ARGUMENT"] * 2


def test_parents_created_in_the_same_batch_are_found() -> None:
    parent = ParentNodeExecutionMetadata(node_id="n0")
    task = ParentTaskExecutionMetadata(
        id={"task_id": TASK, "node_execution_id": {"node_id": "n0", "execution_id": EXECUTION}}
    )
    memory = Memory()
    changes = memory.take(
        [
            node_event("RUNNING"),
            task_event("RUNNING"),
            node_event("QUEUED", node="n1", parent_node_metadata=parent),
            node_event("QUEUED", node="n2", parent_task_metadata=task),
        ]
    )
    assert codes(changes) == ["OK"] * 4
    made = {node.key.node_id: node for node in changes.new_nodes.values()}
    assert made["n1"].parent_id == memory.rows.node_ids[NODE_KEY]
    assert made["n2"].parent_task_id == memory.rows.task_ids[TASK_KEY]
    assert (made["n0"].parent_id, made["n0"].parent_task_id) == (None, None)


def test_a_child_execution_must_exist_when_a_node_names_it_later() -> None:
    memory = Memory()
    child = WorkflowNodeMetadata(execution_id={"project": "p", "domain": "d", "name": "child"})
    memory.take([node_event("QUEUED")])
    assert codes(memory.take([node_event("RUNNING", workflow_node_metadata=child)])) == ["NOT_FOUND"]
    key = ExecutionKey("p", "d", "child")
    memory.rows.executions[key] = replace(execution_state(), key=key)
    assert codes(memory.take([node_event("RUNNING", workflow_node_metadata=child)])) == ["OK"]


def test_nodes_and_tasks_of_another_cluster_are_refused_in_every_phase() -> None:
    memory = Memory(cluster="c1")
    changes = memory.take([node_event("QUEUED", producer_id="c2"), task_event("QUEUED", producer_id="c2")])
    for verdict in changes.outcomes:
        assert verdict is not None
        (detail,) = verdict.details
        assert isinstance(detail, EventFailureReason)
        assert detail.incompatible_cluster.cluster == "c2"


def test_a_reassignment_applies_to_the_rest_of_the_batch() -> None:
    changes = Memory(cluster="c1").take(
        [
            workflow_event("QUEUED", producer_id="c2"),
            node_event("QUEUED", producer_id="c2"),
            node_event("RUNNING", producer_id="c1"),
        ]
    )
    assert codes(changes) == ["OK", "OK", "FAILED_PRECONDITION"]


def test_a_reassignment_changes_only_the_cluster_in_the_spec() -> None:
    spec = ExecutionSpec(metadata={"principal": "me", "system_metadata": {"namespace": "n"}}, max_parallelism=3)
    spec.envs.values.add(key="a", value="b")
    spec.tags.extend(["x", "y"])
    stored = replace(execution_state(cluster="c1"), spec=spec.SerializeToString())
    memory = Memory(executions=[stored])
    memory.take([workflow_event("QUEUED", producer_id="c2"), workflow_event("RUNNING", producer_id="c2")])
    spec.metadata.system_metadata.execution_cluster = "c2"
    assert ExecutionSpec.FromString(memory.rows.executions[EXECUTION_KEY].spec) == spec


def test_the_spec_is_needed_for_a_reassignment_only() -> None:
    assert rows_needed([workflow_event("RUNNING", producer_id="c")]).executions == {EXECUTION_KEY: False}
    assert rows_needed([workflow_event("QUEUED", producer_id="c")]).executions == {EXECUTION_KEY: True}
    assert rows_needed([node_event("QUEUED"), workflow_event("QUEUED")]).referenced == set()


def test_refused_events_write_no_objects() -> None:
    memory = Memory()
    memory.take([node_event("SUCCEEDED")])
    assert not memory.take([node_event("SUCCEEDED", output_data={}), node_event("FAILED", input_data={})]).offloads


def test_a_repeated_event_already_exists() -> None:
    memory = Memory()
    first = memory.take([node_event("QUEUED"), node_event("QUEUED")])
    assert first.outcomes[0] is None
    assert isinstance(first.outcomes[1], AlreadyExists)
    assert codes(memory.take([node_event("QUEUED", 99)])) == [Code.ALREADY_EXISTS.name]


def test_the_message_names_the_missing_entity() -> None:
    (verdict,) = Memory().take([task_event("RUNNING", node="n9")]).outcomes
    assert isinstance(verdict, NotFound)
    assert "n9" in verdict.message


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (
            node_event("QUEUED", name="never"),
            'Failed to get existing execution id: [project:"p" domain:"d" name:"never"]',
        ),
        (
            node_event("QUEUED", parent_node_metadata=ParentNodeExecutionMetadata(node_id="n9")),
            'Failed to get existing node execution id: [node_id:"n9" execution_id:{project:"p" domain:"d" name:"e"}]',
        ),
        (
            node_event("RUNNING", node="n1", workflow_node_metadata=WorkflowNodeMetadata(execution_id={"name": "c"})),
            'missing entity of type execution with identifier name:"c"',
        ),
        (
            task_event("QUEUED", node="n9"),
            'Failed to get existing node execution id: [node_id:"n9" execution_id:{project:"p" domain:"d" name:"e"}]',
        ),
    ],
)
def test_a_missing_entity_is_named_as_in_flyteadmin(event: Event, message: str) -> None:
    memory = Memory()
    assert codes(memory.take([node_event("QUEUED", node="n1")])) == ["OK"]
    (verdict,) = memory.take([event]).outcomes
    assert isinstance(verdict, NotFound)
    assert verdict.message == message
