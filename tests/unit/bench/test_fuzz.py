"""Mutations of requests, and the responses that are problems."""

import random
from collections.abc import Mapping

import pytest
from flyteidl.admin.execution_pb2 import ExecutionCreateRequest
from flyteidl.event.event_pb2 import TaskExecutionEvent
from google.protobuf.message import Message

from bench.entities import ProjectDomain, Shape
from bench.fuzz.calls import LOST, Outcome
from bench.fuzz.findings import GROWTH_MOST_BYTES, SLOW_SECONDS, Findings, report
from bench.fuzz.mutations import DEPTHS, mutated, mutated_bytes
from bench.fuzz.requests import Requests, every_method
from bench.sequences import play

SCOPE = ProjectDomain("p", "d")


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  # the same in every run


def depth(message: Message) -> int:
    """Levels of messages in `message`; map entries count as their values."""
    levels = 0
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            inner = value.values() if field.message_type.fields_by_name["value"].message_type else []
        else:
            inner = value if field.is_repeated else [value]
        levels = max(levels, *(depth(each) for each in inner), 0)
    return levels + 1


def test_mutated_changes_a_copy_and_is_repeatable_with_the_same_seed() -> None:
    request = ExecutionCreateRequest(project="p", domain="d", name="n")
    copies = [mutated(request, seeded(seed)) for seed in (1, 1, 2, 3, 4)]
    assert request == ExecutionCreateRequest(project="p", domain="d", name="n")
    assert copies[0] == copies[1]
    assert any(copy != request for copy in copies)


def test_mutated_nests_as_deep_as_parsers_allow() -> None:
    event = TaskExecutionEvent()
    event.custom_info.SetInParent()
    deepest = max(depth(mutated(event, seeded(seed))) for seed in range(2_000))
    assert deepest >= max(DEPTHS)


def test_mutated_bytes_differ_from_the_payload() -> None:
    changed = {mutated_bytes(b"payload", seeded(seed)) for seed in range(20)}
    assert len(changed - {b"payload"}) > 10


def test_requests_have_one_for_every_method() -> None:
    plays = [play(SCOPE, shape) for shape in Shape]
    requests = Requests(SCOPE, plays, ["a" * 20], seeded(1))
    made = {path: requests.valid(path) for path in every_method()}
    assert len(made) > 60
    assert all(type(made[path]) is kind for path, kind in every_method().items())


@pytest.mark.parametrize(
    ("code", "status", "seconds", "problem"),
    [
        (0, 0, 0.1, False),
        (3, 400, 0.1, False),
        (12, 501, 0.1, False),
        (0, 413, 0.1, False),
        (0, 0, SLOW_SECONDS + 1, True),
        (2, 0, 0.1, True),
        (13, 500, 0.1, True),
        (14, 503, 0.1, True),
        (0, 502, 0.1, True),
        (0, LOST, 0.1, True),
    ],
)
def test_findings_report_server_errors_and_slow_responses(
    code: int, status: int, seconds: float, problem: bool
) -> None:
    findings = Findings()
    findings.add(Outcome("/s/GetTask", code, status, "text", seconds, "0a"))
    assert bool(findings.problems) is problem
    assert report(findings, 1).startswith("seed 1: 1 calls of 1 methods\n")


def test_findings_report_memory_that_does_not_level_out() -> None:
    rising: list[Mapping[str, int]] = [{"events": step * GROWTH_MOST_BYTES} for step in range(5)]
    assert Findings(memory=rising).grown
    assert not Findings(memory=[*rising[:3], rising[2], rising[2]]).grown
