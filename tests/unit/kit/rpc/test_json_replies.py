"""A reply that cannot be written as JSON is reported with the name of the entity that has the value."""

import asyncio
from itertools import pairwise

import pytest
from flyteidl.admin.common_pb2 import NamedEntityIdentifierList, ObjectGetRequest
from flyteidl.admin.execution_pb2 import (
    Execution,
    ExecutionList,
    WorkflowExecutionGetDataRequest,
    WorkflowExecutionGetDataResponse,
)
from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.admin.task_execution_pb2 import TaskExecution, TaskExecutionList
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from services.kit.errors import Internal, ResourceExhausted
from services.kit.protobuf.readable import MOST_LEVELS, descriptor_of
from services.kit.protobuf.wire import message_field
from services.kit.rpc.json_replies import (
    MOST_JSON_REPLY_BYTES,
    MOST_JSON_REPLY_PARTS,
    JsonTurns,
    check_json_reply,
    check_reply_size,
)
from tests.support.poisons import deep, fields_to, path_back

NAME = {"project": "p", "domain": "d", "name": "e"}
TASK = {"resource_type": 1, "project": "p", "domain": "d", "name": "t", "version": "v"}


def execution(**closure: object) -> Execution:
    return Execution(id=NAME, closure=closure)


def check(reply: Message, request: Message, payload: bytes = b"") -> int:
    return check_json_reply("GetIt", request, descriptor_of(reply), payload or reply.SerializeToString())


def error_message(reply: Message, request: Message | None = None, payload: bytes = b"") -> str:
    with pytest.raises(Internal) as error:
        check(reply, request or Empty(), payload)
    return error.value.message


FAR = {"seconds": 2**62}
AFTER = f"timestamp (seconds:{2**62} nanos:0) after 9999-12-31"


def test_a_reply_that_json_can_express_passes() -> None:
    good = ExecutionList(executions=[execution(created_at={"seconds": 1}), execution()], token="t")
    check(good, Empty())
    check(NamedEntityIdentifierList(), Empty())


def test_the_reply_or_its_first_bad_item_is_named_by_its_id() -> None:
    bad, good = execution(created_at=FAR), execution()
    expected = f"execution p/d/e cannot be shown: closure.created_at: {AFTER}"
    assert error_message(bad) == expected
    assert error_message(ExecutionList(executions=[good, bad, good])) == expected
    task = TaskExecution(
        id={"task_id": TASK, "node_execution_id": {"node_id": "n0", "execution_id": NAME}, "retry_attempt": 2},
        closure={"duration": FAR},
    )
    expected_start = "task execution p/d/t/v/p/d/e/n0/2 cannot be shown: closure.duration: a duration of more than"
    assert error_message(TaskExecutionList(task_executions=[task])).startswith(expected_start)
    plan = LaunchPlan(id=TASK, closure={"created_at": FAR})
    assert error_message(plan, ObjectGetRequest()).startswith("launch plan p/d/t/v cannot be shown: ")


def test_a_long_reply_is_checked_in_all_its_items() -> None:
    long = execution(error={"message": "x" * 1_000_000})
    good = ExecutionList(executions=[long, execution(), long], token="t")
    check(good, Empty())
    bad = ExecutionList(executions=[long, long, execution(created_at=FAR)], token="t")
    assert error_message(bad) == f"execution p/d/e cannot be shown: closure.created_at: {AFTER}"


def test_a_reply_without_an_id_is_named_by_its_request() -> None:
    reply = WorkflowExecutionGetDataResponse()
    reply.full_inputs.literals["x"].scalar.generic.fields["y"].number_value = float("inf")
    assert error_message(reply, WorkflowExecutionGetDataRequest(id=NAME)) == (
        "GetIt p/d/e cannot be shown: full_inputs.literals.scalar.generic: a number that is not finite"
    )


def test_an_item_that_cannot_be_parsed_is_named() -> None:
    reply = TaskExecutionList(task_executions=[{"id": {"task_id": TASK}}])
    path = fields_to(TaskExecution(), "closure.custom_info")
    nested = deep(path, path_back(path[-1].message_type), MOST_LEVELS + 2)  # type: ignore[arg-type]  # it holds one
    item = reply.task_executions[0].SerializeToString() + nested
    message = error_message(reply, payload=message_field(1, b"") + message_field(1, item))
    assert message == "task execution p/d/t/v cannot be shown: nested too deeply, or broken"


@pytest.mark.parametrize("broken", [b"\x0a\xff", b"\x0a\x05ab", b"\x0b", b"\x80"])
def test_a_malformed_reply_is_internal(broken: bytes) -> None:
    assert "cannot be shown: nested too deeply, or broken" in error_message(ExecutionList(), payload=broken)


def test_a_reply_that_is_too_large_for_json_is_refused() -> None:
    check_reply_size(bytes(MOST_JSON_REPLY_BYTES))
    with pytest.raises(ResourceExhausted, match=f"has {MOST_JSON_REPLY_BYTES + 1} bytes"):
        check_reply_size(bytes(MOST_JSON_REPLY_BYTES + 1))


def test_parts_of_large_replies_only_are_counted() -> None:
    assert check(ExecutionList(executions=[{}] * 1000), Empty()) == 0
    dense = ExecutionList(executions=[{}] * 200_000)
    assert check(dense, Empty()) > 200_000
    one_text = ExecutionList(token="t" * 400_000)
    assert 0 < check(one_text, Empty()) < 100_000


async def test_a_reply_of_too_many_parts_is_refused() -> None:
    dense = ExecutionList(executions=[{}] * (MOST_JSON_REPLY_PARTS // 5))
    with pytest.raises(ResourceExhausted, match=f"more than the {MOST_JSON_REPLY_PARTS} parts"):
        await JsonTurns().wait(check(dense, Empty()))


async def test_large_replies_are_spaced_out(monkeypatch: pytest.MonkeyPatch) -> None:
    turns, ended = JsonTurns(), []
    parts = 100_000  # 20 ms

    async def reply() -> None:
        await turns.wait(parts)
        ended.append(asyncio.get_running_loop().time())

    await asyncio.gather(*(reply() for _ in range(4)))
    # Timers of the loop may be a clock tick early.
    assert all(later - sooner > 0.9 * parts * turns.SECONDS_OF_PART for sooner, later in pairwise(ended))
    monkeypatch.setattr(JsonTurns, "MOST_SECONDS", 0.01)
    replies = await asyncio.gather(*(turns.wait(MOST_JSON_REPLY_PARTS) for _ in range(2)), return_exceptions=True)
    assert [type(each) for each in replies] == [type(None), ResourceExhausted]
