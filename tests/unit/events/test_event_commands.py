"""Arguments of the commands, and what they show."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.event_batches import Batch, BatchedEvent, Kind, encode_batch, encode_verdicts
from services.contracts.event_fingerprints import decode_fingerprints, encode_fingerprints, fingerprint_of, positions_of
from services.events.commands import show
from services.events.commands.arguments import add_since, parser
from services.events.commands.replay import replay
from services.events.config import Settings
from services.events.rules.log_lines import Entry, as_json, entries_of, fields_of, table, unreadable
from tests.support.event_makers import batched, node_event, task_event, workflow_event
from tests.support.poisons import groups

NOW = datetime(2026, 11, 24, 15, tzinfo=UTC)
MARK, OTHER = fingerprint_of("p", "d", "e"), fingerprint_of("p", "d", "other")


@given(st.lists(st.sampled_from([MARK, OTHER]), max_size=50))
def test_marks_tell_whose_each_event_is(marks: list[bytes]) -> None:
    told = decode_fingerprints(encode_fingerprints(marks))
    assert list(positions_of(MARK, told)) == [place for place, mark in enumerate(marks) if mark == MARK]


def test_a_mark_found_across_the_border_of_two_others_is_no_events() -> None:
    assert list(positions_of(MARK, b"x" * 4 + MARK + b"x" * 4)) == []


def test_an_execution_keeps_its_mark_over_releases() -> None:
    assert fingerprint_of("flytesnacks", "development", "f0123456789").hex() == "c6f90b6403c5e939"
    assert len(fingerprint_of("\udc80", "ü", "n")) == 8


def batch_of(*names: str) -> bytes:
    return encode_batch(Batch("b", tuple(batched(workflow_event("RUNNING", name=name)) for name in names)))


def test_entries_are_the_events_that_carry_the_mark_with_their_verdicts() -> None:
    refused = Status(code=5, message="missing entity").SerializeToString()
    verdicts = encode_verdicts("b", [b"", b"", refused])
    found = entries_of(NOW, batch_of("e", "other", "e"), verdicts, MARK, MARK + OTHER + MARK)
    assert [(entry.position, entry.verdict) for entry in found] == [(0, b""), (2, refused)]


def test_a_batch_of_a_sender_that_told_no_marks_gives_all_its_events() -> None:
    found = entries_of(NOW, batch_of("e", "other"), None, MARK, None)
    assert [(entry.position, entry.verdict) for entry in found] == [(0, None), (1, None)]


def test_a_batch_that_cannot_be_read_gives_nothing() -> None:
    assert entries_of(NOW, b"no batch", b"", MARK, None) == []


def entry(event: BatchedEvent, verdict: bytes | None = b"", body: bytes | None = None) -> Entry:
    return Entry(NOW, "b", 3, event, verdict, body if event.by_reference else event.body)


def test_a_line_names_what_the_event_is_about_and_what_was_answered() -> None:
    refused = Status(code=9, message="invalid phase change").SerializeToString()
    task = fields_of(entry(batched(task_event("RUNNING", version=4, node="n1", retry_attempt=2)), refused))
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
    waiting = fields_of(entry(batched(node_event("QUEUED")), None))
    assert (waiting["kind"], waiting["phase"], waiting["verdict"]) == ("node", "QUEUED", "waiting")


def test_events_that_are_gone_unreadable_or_of_an_unknown_phase_are_shown_all_the_same() -> None:
    gone = fields_of(entry(BatchedEvent(Kind.NODE, b"s3://b/o", by_reference=True)))
    assert (gone["node"], gone["message"]) == ("", "the event was large, and its object is gone")
    assert fields_of(entry(BatchedEvent(Kind.NODE, b"\xff")))["phase"] == ""
    newer = workflow_event("RUNNING")
    newer.phase = 99  # type: ignore[assignment]  # what a newer release would let in
    assert fields_of(entry(batched(newer)))["phase"] == "99"


def test_an_event_that_no_list_can_show_is_not_to_be_sent_again() -> None:
    far = task_event("RUNNING", custom_info={"x": float("nan")})
    assert unreadable(Kind.TASK, batched(far).body) == "event.custom_info: a number that is not finite"
    assert unreadable(Kind.NODE, groups(98)) == "nested too deeply"
    assert unreadable(Kind.WORKFLOW, batched(workflow_event("RUNNING")).body) == ""


def test_a_table_is_aligned_whatever_the_alphabet_and_safe_on_a_terminal() -> None:
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
def test_since_takes_a_point_in_time(text: str, expected: datetime) -> None:
    assert since(text) == expected


def since(text: str) -> datetime:
    options = parser("log", "")
    add_since(options)
    at: datetime = options.parse_args(["--since", text]).since
    return at


def test_since_takes_how_long_ago() -> None:
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
async def test_wrong_arguments_of_log_are_told_with_its_usage(
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
async def test_wrong_arguments_of_replay_are_told_with_its_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        await replay(Settings(), arguments)
    assert ended.value.code == 2
    assert "usage: python -m services.events replay" in capsys.readouterr().err
