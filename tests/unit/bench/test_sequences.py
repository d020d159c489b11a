"""The sequences are those of the engine (engine.md#event-sequences)."""

from collections import Counter
from itertools import islice

import pytest
from flyteidl.admin.event_pb2 import (
    NodeExecutionEventRequest,
    TaskExecutionEventRequest,
    WorkflowExecutionEventRequest,
)
from flyteidl.admin.execution_pb2 import ExecutionCreateRequest
from flyteidl.core.execution_pb2 import NodeExecution, TaskExecution, WorkflowExecution

from bench.entities import FANOUT_NODES, SERVICE, SUBTASKS, ProjectDomain, Shape
from bench.load import MIX, mixed
from bench.sequences import (
    CHANGED_TOGETHER,
    DYNAMIC_NODES,
    NAME_LENGTH,
    POD_REASONS,
    STAND_IN,
    SUBTASK_PHASES,
    Entity,
    Play,
    Step,
    play,
)

SCOPE = ProjectDomain("flytesnacks", "development")
PLAYS = {shape: play(SCOPE, shape) for shape in Shape}
Request = WorkflowExecutionEventRequest | NodeExecutionEventRequest | TaskExecutionEventRequest
METHODS: dict[str, type[Request]] = {
    "CreateWorkflowEvent": WorkflowExecutionEventRequest,
    "CreateNodeEvent": NodeExecutionEventRequest,
    "CreateTaskEvent": TaskExecutionEventRequest,
}
NAME = b"f0123456789abcdefghi"
TASK_EVENTS = 3 + len(POD_REASONS)
MAP_ROUNDS = SUBTASKS // CHANGED_TOGETHER * len(SUBTASK_PHASES)

# Workflow, node and task events: engine.md#single-task-node (3 + 3 + 3 k and at least 3 k), engine.md#dynamic-nodes and
# engine.md#map-tasks (2 and one a round).
COUNTS = {
    Shape.SINGLE: (3, 6, TASK_EVENTS),
    Shape.FANOUT: (3, 3 + 3 * FANOUT_NODES, TASK_EVENTS * FANOUT_NODES),
    Shape.DYNAMIC: (3, 3 + 4 + 3 + 3 * DYNAMIC_NODES, TASK_EVENTS * (1 + DYNAMIC_NODES)),
    Shape.MAP: (3, 3 + 3, 2 + MAP_ROUNDS),
}


def parsed(step: Step) -> Request:
    return METHODS[step.path.removeprefix(SERVICE)].FromString(step.of(NAME))


@pytest.mark.parametrize("shape", Shape)
def test_sequence_of_each_shape_has_as_many_events_as_the_engine_sends(shape: Shape) -> None:
    methods = Counter(step.path.removeprefix(SERVICE) for step in PLAYS[shape].steps)
    assert tuple(methods[method] for method in METHODS) == COUNTS[shape]


def test_single_task_is_reported_in_the_order_of_the_engine() -> None:
    phases = [(step.entity, step.phase) for step in PLAYS[Shape.SINGLE].steps]
    node, task = Entity("n0"), Entity("n0", is_task=True)
    assert phases == [
        (Entity(), WorkflowExecution.RUNNING),
        (Entity("start-node"), NodeExecution.SUCCEEDED),
        (node, NodeExecution.QUEUED),
        (task, TaskExecution.QUEUED),
        (node, NodeExecution.RUNNING),
        *[(task, TaskExecution.QUEUED)] * len(POD_REASONS),
        (task, TaskExecution.RUNNING),
        (task, TaskExecution.SUCCEEDED),
        (node, NodeExecution.SUCCEEDED),
        (Entity("end-node"), NodeExecution.QUEUED),
        (Entity("end-node"), NodeExecution.SUCCEEDED),
        (Entity(), WorkflowExecution.SUCCEEDING),
        (Entity(), WorkflowExecution.SUCCEEDED),
    ]


@pytest.mark.parametrize("shape", Shape)
def test_event_of_an_execution_has_its_name_and_no_stand_in(shape: Shape) -> None:
    assert len(NAME) == NAME_LENGTH
    for step in PLAYS[shape].steps:
        assert STAND_IN.encode() not in step.of(NAME)
        assert NAME in parsed(step).SerializeToString()


@pytest.mark.parametrize("shape", Shape)
def test_phases_of_steps_are_those_of_the_events(shape: Shape) -> None:
    assert all(parsed(step).event.phase == step.phase for step in PLAYS[shape].steps)


@pytest.mark.parametrize("shape", Shape)
def test_every_entity_ends_succeeded(shape: Shape) -> None:
    ends = {step.entity: step.phase for step in PLAYS[shape].steps}
    for entity, phase in ends.items():
        kind = TaskExecution if entity.is_task else NodeExecution if entity.node else WorkflowExecution
        assert phase == kind.SUCCEEDED


def test_parent_is_reported_before_its_children() -> None:
    known: set[str] = set()
    for step in PLAYS[Shape.DYNAMIC].steps:
        assert not step.entity.parent or step.entity.parent in known
        assert not step.entity.is_task or step.entity.node in known
        known.add(step.entity.node)


def test_dynamic_node_reports_its_workflow() -> None:
    (made,) = [step for step in PLAYS[Shape.DYNAMIC].steps if step.phase == NodeExecution.DYNAMIC_RUNNING]
    event = NodeExecutionEventRequest.FromString(made.of(NAME)).event
    assert event.is_parent
    assert event.is_dynamic
    made_workflow = event.task_node_metadata.dynamic_workflow
    assert made_workflow.id == made_workflow.compiled_workflow.primary.template.id
    assert len(made_workflow.compiled_workflow.primary.template.nodes) == DYNAMIC_NODES + 2


def test_subtasks_of_an_array_go_through_all_phases() -> None:
    phases: dict[int, list[int]] = {index: [] for index in range(SUBTASKS)}
    for step in PLAYS[Shape.MAP].steps:
        if not step.entity.is_task:
            continue
        event = TaskExecutionEventRequest.FromString(step.of(NAME)).event
        assert not event.producer_id
        assert not event.HasField("reported_at")
        for resource in event.metadata.external_resources:
            phases[resource.index].append(resource.phase)
    whole = [TaskExecution.UNDEFINED, *SUBTASK_PHASES, TaskExecution.SUCCEEDED]
    assert all(seen == whole for seen in phases.values())


def test_execution_is_created_under_its_name() -> None:
    request = ExecutionCreateRequest.FromString(PLAYS[Shape.MAP].create_for(NAME))
    assert request.name == NAME.decode()
    assert request.spec.launch_plan.name == "bench.map"


def test_mix_has_its_proportions() -> None:
    drawn: Counter[Shape] = Counter(play.shape for play in islice(mixed(list(PLAYS.values())), 100))
    assert drawn == MIX


def test_mix_of_one_shape_has_only_that() -> None:
    single: Play = PLAYS[Shape.SINGLE]
    assert [play.shape for play in islice(mixed([single]), 3)] == [Shape.SINGLE] * 3
