"""Arguments and output of the commands."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.event_batches import Batch, BatchedEvent, Kind, encode_batch, encode_verdicts
from services.contracts.fingerprints import decode_fingerprints, encode_fingerprints, fingerprint_of, positions_of
from services.events.commands import show
from services.events.commands.arguments import parser
from services.events.commands.replay import replay
from services.events.config import Settings
from services.events.rules.log_lines import LoggedEvent, columns_of, events_of, readability_fault
from services.kit.process.terminal import add_since, as_json, table
from tests.support.event_makers import batched, node_event, task_event, workflow_event
from tests.support.poisons import groups

NOW = datetime(2026, 11, 24, 15, tzinfo=UTC)
FINGERPRINT, OTHER = fingerprint_of("p", "d", "e"), fingerprint_of("p", "d", "other")


@given(st.lists(st.sampled_from([FINGERPRINT, OTHER]), max_size=50))
def test_positions_of_a_fingerprint_are_those_of_its_events(fingerprints: list[bytes]) -> None:
    decoded = decode_fingerprints(encode_fingerprints(fingerprints))
    assert decoded is not None
    assert list(positions_of(FINGERPRINT, decoded)) == [
        position for position, fingerprint in enumerate(fingerprints) if fingerprint == FINGERPRINT
    ]


@pytest.mark.parametrize("header", [None, "no base64", "größe"])
def test_a_header_that_is_missing_or_cannot_be_read_has_no_fingerprints(header: str | None) -> None:
    assert decode_fingerprints(header) is None


def test_a_fingerprint_across_the_border_of_two_others_has_no_position() -> None:
    assert list(positions_of(FINGERPRINT, b"x" * 4 + FINGERPRINT + b"x" * 4)) == []


def test_the_fingerprint_of_an_execution_is_the_same_in_all_releases() -> None:
    assert fingerprint_of("flytesnacks", "development", "f0123456789").hex() == "c6f90b6403c5e939"
    assert len(fingerprint_of("\udc80", "ü", "n")) == 8


def batch_of(*names: str) -> bytes:
    return encode_batch(Batch("b", tuple(batched(workflow_event("RUNNING", name=name)) for name in names)))


def test_events_of_a_batch_are_those_with_the_fingerprint_and_have_their_verdicts() -> None:
    refused = Status(code=5, message="missing entity").SerializeToString()
    verdicts = encode_verdicts("b", [b"", b"", refused])
    events = events_of(NOW, batch_of("e", "other", "e"), verdicts, FINGERPRINT, FINGERPRINT + OTHER + FINGERPRINT)
    assert [(logged.position, logged.verdict) for logged in events] == [(0, b""), (2, refused)]


def test_events_of_a_batch_without_fingerprints_are_all_its_events() -> None:
    events = events_of(NOW, batch_of("e", "other"), None, FINGERPRINT, None)
    assert [(logged.position, logged.verdict) for logged in events] == [(0, None), (1, None)]


def test_events_of_a_batch_that_cannot_be_read_are_none() -> None:
    assert events_of(NOW, b"no batch", b"", FINGERPRINT, None) == []


def logged(event: BatchedEvent, verdict: bytes | None = b"", body: bytes | None = None) -> LoggedEvent:
    return LoggedEvent(NOW, "b", 3, event, verdict, body if event.by_reference else event.body)


def test_columns_of_an_event_are_its_fields_and_its_verdict() -> None:
    refused = Status(code=9, message="invalid phase change").SerializeToString()
    task = columns_of(logged(batched(task_event("RUNNING", version=4, node="n1", retry_attempt=2)), refused))
    assert json.loads(as_json(task)) == {
        "received": "2026-11-24T15:00:00.000+00:00",
        "batch": "b",
        "position": 3,
        "execution": "p/d/e",
        "kind": "task",
        "node": "n1",
        "task": "t",
        "attempt": 2,
        "phase": "RUNNING",
        "version": 4,
        "verdict": "FAILED_PRECONDITION",
        "message": "invalid phase change",
    }
    waiting = columns_of(logged(batched(node_event("QUEUED")), None))
    assert (waiting["kind"], waiting["phase"], waiting["verdict"]) == ("node", "QUEUED", "waiting")


def test_columns_of_events_that_are_gone_or_unreadable_or_have_an_unknown_phase() -> None:
    gone = columns_of(logged(BatchedEvent(Kind.NODE, b"s3://b/o", by_reference=True)))
    assert (gone["node"], gone["message"]) == ("", "the event was large, and its object is gone")
    assert columns_of(logged(BatchedEvent(Kind.NODE, b"\xff")))["phase"] == ""
    newer = workflow_event("RUNNING")
    newer.phase = 99  # type: ignore[assignment]  # what a newer release would let in
    assert columns_of(logged(batched(newer)))["phase"] == "99"


def test_readability_fault_names_a_value_that_no_list_can_return() -> None:
    far = task_event("RUNNING", custom_info={"x": float("nan")})
    assert readability_fault(Kind.TASK, batched(far).body) == "event.custom_info: a number that is not finite"
    assert readability_fault(Kind.NODE, groups(98)) == "nested too deeply"
    assert readability_fault(Kind.WORKFLOW, batched(workflow_event("RUNNING")).body) == ""


def test_a_table_is_aligned_in_every_alphabet_and_safe_on_a_terminal() -> None:
    rows: list[dict[str, str | int | None]] = [
        {"a": "größe", "b": 1},
        {"a": "节点", "b": None},
        {"a": "e\u0301", "b": "\x1b[31m\n"},
    ]
    assert list(table(("a", "b"), rows)) == ["A      B", "größe  1", "节点", "e\u0301      \\x1b[31m\\n"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24T15:00", datetime(2026, 11, 24, 15, tzinfo=UTC)),
        ("2026-11-24T15:00+02:00", datetime(2026, 11, 24, 13, tzinfo=UTC)),
        ("2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
    ],
)
def test_since_accepts_a_point_in_time(text: str, expected: datetime) -> None:
    assert since(text) == expected


def since(text: str) -> datetime:
    options = parser("log", "")
    add_since(options)
    at: datetime = options.parse_args(["--since", text]).since
    return at


def test_since_accepts_a_time_ago() -> None:
    for text, ago in {"90s": timedelta(seconds=90), "30m": timedelta(minutes=30), "3d": timedelta(days=3)}.items():
        assert abs(datetime.now(UTC) - ago - since(text)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["a/b/c", "--since", "yesterday"],
        ["a/b/c", "--since", "999999d"],
        ["a/b"],
        ["a/b/c/d"],
        ["a//c"],
        [],
    ],
)
async def test_log_shows_its_usage_for_wrong_arguments(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        await show.log(Settings(), arguments)
    assert ended.value.code == 2
    assert "usage: python -m services.events log" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--refused"],
        ["--refused", "x"],
        ["--refused", str(2**63)],
        ["--refused", "1", "--since", "1h"],
        ["--refused", "1", "--execution", "a/b/c"],
    ],
)
async def test_replay_shows_its_usage_for_wrong_arguments(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        await replay(Settings(), arguments)
    assert ended.value.code == 2
    assert "usage: python -m services.events replay" in capsys.readouterr().err
