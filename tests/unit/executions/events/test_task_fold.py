"""The fold of a task event into an attempt (events.md#createtaskevent)."""

from typing import Any

import pytest
from flyteidl.core.catalog_pb2 import CACHE_HIT
from flyteidl.core.execution_pb2 import ExecutionError, LogContext, TaskExecution, TaskLog
from flyteidl.event.event_pb2 import EventReason, ExternalResourceInfo, ResourcePoolInfo, TaskExecutionMetadata
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from services.executions.rules.events.custom_info import merge_patch
from services.executions.rules.events.logs import merge_logs, visible_logs
from services.executions.rules.events.state import Offload, Offloads, TaskState
from services.executions.rules.events.task import MAX_REASONS, check_transition, fold_first, fold_task
from services.executions.rules.events.task_metadata import merge_metadata
from services.executions.rules.events.verdicts import MOST_STORED_PARTS
from services.kit.errors import AlreadyExists, ResourceExhausted
from services.kit.protobuf.size_limit import MOST_ENTITY_BYTES
from tests.support.event_makers import LAYOUT, TASK_KEY, VALUES, at, task_event

RUNNING, QUEUED, SUCCEEDED, INITIALIZING, FAILED = 2, 1, 3, 6, 5


def first(phase: str, when: float = 10, **fields: Any) -> TaskState:
    return fold_first(TASK_KEY, task_event(phase, when, **fields), LAYOUT, Offloads())


def fold(state: TaskState, phase: str, when: float = 10, **fields: Any) -> TaskState:
    return fold_task(state, task_event(phase, when, **fields), LAYOUT, Offloads())


def struct(values: dict[str, Any]) -> Struct:
    made = Struct()
    made.update(values)
    return made


def test_the_first_event_creates_the_attempt() -> None:
    log = TaskLog(uri="u", name="hidden while queued")
    state = first("QUEUED", 10, version=3, task_type="python", event_version=1, input_uri="in", logs=[log])
    closure = state.closure
    assert (closure.created_at, closure.updated_at) == (at(10), at(10))
    assert (closure.task_type, closure.event_version, state.input_uri, state.phase_version) == ("python", 1, "in", 3)
    assert list(closure.logs) == [log]
    assert not closure.HasField("started_at")


def test_the_version_is_stored_even_when_it_is_zero() -> None:
    state = fold(first("QUEUED", version=3), "RUNNING", version=0)
    assert state.phase_version == 0
    check_transition(state, task_event("RUNNING", version=1))
    with pytest.raises(AlreadyExists):
        check_transition(state, task_event("RUNNING", version=0))


def test_started_at_is_the_first_running() -> None:
    state = fold(first("QUEUED"), "RUNNING", 20)
    state = fold(fold(fold(state, "RUNNING", 21, version=1), "INITIALIZING", 22), "RUNNING", 23)
    assert state.closure.started_at == at(20)
    assert fold(state, "SUCCEEDED", 26).closure.duration == Duration(seconds=6)
    assert first("RUNNING", 5).closure.started_at == at(5)


@pytest.mark.parametrize("before", [["QUEUED"], ["WAITING_FOR_RESOURCES", "INITIALIZING"]])
@pytest.mark.parametrize("phase", ["SUCCEEDED", "FAILED", "ABORTED"])
def test_an_attempt_that_ends_without_running_started_at_its_creation(before: list[str], phase: str) -> None:
    state = first(before[0], 10)
    for between in before[1:]:
        state = fold(state, between, 11)
    closure = fold(state, phase, 12.5).closure
    assert closure.started_at == at(10)
    assert closure.duration == Duration(seconds=2, nanos=500_000_000)


def test_a_first_event_may_be_terminal() -> None:
    closure = first("FAILED", error=ExecutionError(code="c")).closure
    assert closure.error.code == "c"
    assert not closure.HasField("duration")


def test_inline_data_is_offloaded_below_the_attempt() -> None:
    folder = "mem://metadata/p/d/e/n0/p/d/t/v/0"
    offloads = Offloads()
    state = fold_first(TASK_KEY, task_event("RUNNING", input_data=VALUES), LAYOUT, offloads)
    state = fold_task(state, task_event("SUCCEEDED", output_data=VALUES), LAYOUT, offloads)
    data = VALUES.SerializeToString()
    uris = (f"{folder}/offloaded_inputs", f"{folder}/offloaded_outputs")
    assert offloads.objects == [Offload(uri, data) for uri in uris]
    assert (state.input_uri, state.closure.output_uri) == uris


def test_a_list_of_reasons_is_appended_whole_instead_of_the_single_one() -> None:
    reasons = [EventReason(reason="a", occurred_at=at(1)), EventReason(reason="b", occurred_at=at(2))]
    state = fold(first("QUEUED", reason="first"), "RUNNING", reasons=reasons, reason="b")
    state = fold(state, "RUNNING", version=1, reasons=reasons)
    assert [reason.message for reason in state.closure.reasons] == ["first", "a", "b", "a", "b"]
    assert state.closure.reasons[1].occurred_at == at(1)
    assert state.closure.reason == "b"


def test_a_listed_reason_without_a_time_is_not_dated_1970() -> None:
    state = first("QUEUED", reasons=[EventReason(reason="a")])
    assert not state.closure.reasons[0].HasField("occurred_at")


def test_a_single_reason_is_appended_when_it_is_new() -> None:
    state = fold(first("QUEUED", 10, reason="a"), "QUEUED", 11, version=1, reason="a")
    state = fold(state, "RUNNING", 12, reason="b")
    assert [(reason.message, reason.occurred_at) for reason in state.closure.reasons] == [("a", at(10)), ("b", at(12))]
    assert fold(state, "SUCCEEDED").closure.reason == "b"


def test_the_oldest_of_too_many_reasons_are_dropped() -> None:
    state = first("QUEUED", reason="oldest")
    state = fold(state, "RUNNING", reasons=[EventReason(reason=str(number)) for number in range(MAX_REASONS)])
    assert (len(state.closure.reasons), state.closure.reasons[0].message) == (MAX_REASONS, "0")


def test_the_oldest_of_too_large_reasons_are_dropped() -> None:
    state = first("QUEUED", reason="a" * 1_500_000)
    state = fold(state, "RUNNING", reasons=[EventReason(reason="b" * 500_000), EventReason(reason="c" * 1_000_000)])
    assert [reason.message[0] for reason in state.closure.reasons] == ["b", "c"]


def test_an_attempt_does_not_grow_beyond_a_message_and_always_ends() -> None:
    large = [TaskLog(uri="u" * 3_000_000)]
    state = first("QUEUED", logs=large)
    state = fold(state, "RUNNING", version=1)  # does not grow
    for grown in ({"logs": [TaskLog(uri="v" * 3_000_000)]}, {"custom_info": struct({"k": "v" * 1_000_000})}):
        with pytest.raises(ResourceExhausted, match="message larger than max"):
            fold(state, "RUNNING", version=2, **grown)
        end = fold(state, "SUCCEEDED", **grown, output_uri="s3://out").closure  # without what it has no space for
        assert (end.phase, end.output_uri) == (TaskExecution.SUCCEEDED, "s3://out")
        assert end.ByteSize() <= MOST_ENTITY_BYTES
    with pytest.raises(ResourceExhausted, match="message larger than max"):
        first("QUEUED", reason="r" * 3_000_000)  # a closure has it twice
    end = first("FAILED", reason="r" * 3_000_000, error=ExecutionError(message="m")).closure
    assert (end.reason, end.error.message) == ("", "m")


def test_an_end_without_space_stores_no_object_twice() -> None:
    offloads = Offloads()
    event = task_event("SUCCEEDED", custom_info=struct({"k": "v" * MOST_ENTITY_BYTES}), output_data=VALUES)
    state = fold_task(first("RUNNING"), event, LAYOUT, offloads)
    assert [item.uri for item in offloads.objects] == [state.closure.output_uri]


def test_an_error_is_cut_so_that_clients_receive_the_attempt() -> None:
    state = first("RUNNING", custom_info=struct({"k": "v" * (MOST_ENTITY_BYTES - 100)}))
    closure = fold(state, "FAILED", error=ExecutionError(message="é" * 2_000_000, code="c" * 4_000_000)).closure
    assert closure.HasField("custom_info")
    assert closure.error.message.startswith("éé")
    assert closure.ByteSize() < MOST_ENTITY_BYTES + 150 * 1024


def test_an_attempt_does_not_grow_beyond_the_parts_that_may_be_stored_and_always_ends() -> None:
    """Every later event copies them."""
    logs = [TaskLog(ShowWhilePending=True)] * (MOST_STORED_PARTS - 100)
    state = first("QUEUED", logs=logs)
    for grown in (
        {"custom_info": struct(dict.fromkeys(map(str, range(100)), "v"))},
        {"logs": [TaskLog(uri="u")] * 300},
    ):
        with pytest.raises(ResourceExhausted, match="message larger than max"):
            fold(state, "RUNNING", version=1, **grown)
        fold(state, "SUCCEEDED", **grown)
    assert fold(state, "RUNNING", version=1, reason="r").closure.reason == "r"
    with pytest.raises(ResourceExhausted, match="message larger than max"):
        first("QUEUED", logs=logs * 2)


def test_event_versions_only_grow_and_the_task_type_stays() -> None:
    state = fold(first("QUEUED", event_version=2, task_type="a"), "RUNNING", event_version=1, task_type="b")
    assert (state.closure.event_version, state.closure.task_type) == (2, "a")


def test_the_log_context_is_stored() -> None:
    context = LogContext(primary_pod_name="pod")
    state = first("QUEUED", log_context=context)
    assert fold(state, "RUNNING").closure.log_context == context
    assert (
        fold(state, "RUNNING", log_context=LogContext(primary_pod_name="b")).closure.log_context.primary_pod_name == "b"
    )


def log(uri: str, name: str = "", *, pending: bool = False, hide: bool = False) -> TaskLog:
    return TaskLog(uri=uri, name=name, ShowWhilePending=pending, HideOnceFinished=hide)


@pytest.mark.parametrize(
    ("stored", "new", "merged"),
    [
        ([log("a")], [], ["a"]),
        ([], [log("b")], ["b"]),
        ([log("a"), log("b")], [log("c")], ["c", "a", "b"]),
        ([log("a", "x"), log("b", "y")], [log("c", "x")], ["c", "b"]),
        ([log("a", "x")], [log("a", "z")], ["a"]),
        ([log("a", ""), log("b", "")], [log("c", "")], ["c", "a", "b"]),
    ],
)
def test_logs_are_replaced_by_uri_and_by_name(stored: list[TaskLog], new: list[TaskLog], merged: list[str]) -> None:
    assert [log.uri for log in merge_logs(stored, new)] == merged


@pytest.mark.parametrize(
    ("phase", "visible"),
    [
        (QUEUED, ["pending", "both"]),
        (INITIALIZING, ["pending", "both"]),
        (RUNNING, ["plain", "pending", "hide", "both"]),
        (SUCCEEDED, ["plain", "pending"]),
        (FAILED, ["plain", "pending"]),
    ],
)
def test_logs_are_visible_in_their_phases(phase: int, visible: list[str]) -> None:
    logs = [log("plain"), log("pending", pending=True), log("hide", hide=True), log("both", pending=True, hide=True)]
    assert [log.uri for log in visible_logs(logs, phase)] == visible


def test_a_dropped_log_comes_back_with_the_next_event_that_contains_it() -> None:
    state = fold(first("QUEUED", logs=[log("a")]), "QUEUED", version=1, logs=[log("a")])
    assert not state.closure.logs
    assert [log.uri for log in fold(state, "RUNNING", logs=[log("a")]).closure.logs] == ["a"]


@pytest.mark.parametrize(
    ("stored", "new", "merged"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": None}, {}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": 3}}, {"a": {"c": 2, "d": 3}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": 1}, {"a": {"b": None, "c": 1}}, {"a": {"c": 1}}),
        ({"a": {"b": 1}}, {"a": "x"}, {"a": "x"}),
        ({}, {"a": {"b": {"c": None}}}, {"a": {"b": {}}}),
    ],
)
def test_custom_info_is_merged_as_a_patch(stored: dict[str, Any], new: dict[str, Any], merged: dict[str, Any]) -> None:
    target = struct(stored)
    merge_patch(target, struct(new), present=True)
    assert MessageToDict(target) == merged


def test_custom_info_is_copied_when_there_was_none() -> None:
    state = fold(first("QUEUED"), "RUNNING", custom_info=struct({"a": None}))
    assert MessageToDict(state.closure.custom_info) == {"a": None}
    assert MessageToDict(fold(state, "SUCCEEDED").closure.custom_info) == {"a": None}


def resource(index: int, attempt: int = 0, **fields: Any) -> ExternalResourceInfo:
    return ExternalResourceInfo(index=index, retry_attempt=attempt, **fields)


def keys(metadata: TaskExecutionMetadata) -> list[tuple[int, int]]:
    return [(info.index, info.retry_attempt) for info in metadata.external_resources]


def test_subtasks_are_ordered_by_index_and_attempt() -> None:
    state = first("QUEUED", metadata=TaskExecutionMetadata(external_resources=[resource(2), resource(0)]))
    new = TaskExecutionMetadata(external_resources=[resource(2, 1), resource(1), resource(0, phase="RUNNING")])
    state = fold(state, "RUNNING", metadata=new)
    assert keys(state.closure.metadata) == [(0, 0), (1, 0), (2, 0), (2, 1)]
    assert state.closure.metadata.external_resources[0].phase == RUNNING


def test_a_subtask_is_merged_field_by_field() -> None:
    stored = TaskExecutionMetadata(
        external_resources=[
            resource(
                0,
                external_id="pod",
                phase="RUNNING",
                cache_status=CACHE_HIT,
                logs=[log("a", "x")],
                custom_info=struct({"a": 1}),
            )
        ]
    )
    new = TaskExecutionMetadata(
        external_resources=[
            resource(
                0,
                phase="QUEUED",
                logs=[log("b", "x")],
                custom_info=struct({"b": 1}),
                log_context=LogContext(primary_pod_name="pod"),
                workflow_node_metadata={"execution_id": {"name": "child"}},
            )
        ]
    )
    merge_metadata(stored, new, present=True)
    (subtask,) = stored.external_resources
    assert (subtask.external_id, subtask.phase, subtask.cache_status) == ("pod", QUEUED, CACHE_HIT)
    assert [log.uri for log in subtask.logs] == ["b"]
    assert MessageToDict(subtask.custom_info) == {"b": 1}
    assert subtask.log_context.primary_pod_name == "pod"
    assert subtask.workflow_node_metadata.execution_id.name == "child"


def test_subtasks_without_an_index_are_merged_into_one() -> None:
    stored = TaskExecutionMetadata(external_resources=[resource(0)])
    new = TaskExecutionMetadata(external_resources=[resource(0, external_id="a"), resource(0, external_id="b")])
    merge_metadata(stored, new, present=True)
    assert [subtask.external_id for subtask in stored.external_resources] == ["b"]


def test_other_metadata_stays_unless_the_event_has_it() -> None:
    stored = TaskExecutionMetadata(
        generated_name="g",
        plugin_identifier="p",
        instance_class=TaskExecutionMetadata.INTERRUPTIBLE,
        resource_pool_info=[ResourcePoolInfo(namespace="n")],
    )
    merge_metadata(stored, TaskExecutionMetadata(), present=True)
    assert stored == TaskExecutionMetadata(
        generated_name="g", plugin_identifier="p", instance_class=TaskExecutionMetadata.INTERRUPTIBLE
    )
    merge_metadata(stored, TaskExecutionMetadata(generated_name="h", plugin_identifier="q"), present=True)
    assert (stored.generated_name, stored.plugin_identifier) == ("h", "q")


def test_logs_of_subtasks_are_filtered_when_the_phase_of_the_task_changes() -> None:
    subtask = resource(0, phase="RUNNING", logs=[log("plain"), log("hide", hide=True)])
    state = first("RUNNING", metadata=TaskExecutionMetadata(external_resources=[subtask]))
    same = fold(state, "RUNNING", version=1)
    assert len(same.closure.metadata.external_resources[0].logs) == 2
    done = fold(state, "SUCCEEDED")
    assert [one.uri for one in done.closure.metadata.external_resources[0].logs] == ["plain"]
