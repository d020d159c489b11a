"""Framing of batches and verdicts, and the choice of a lane."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.event_batches import (
    EVENT_LANES,
    Batch,
    BatchedEvent,
    Kind,
    decode_batch,
    decode_verdicts,
    encode_batch,
    encode_verdicts,
    lane_of,
    parse_verdict,
    size,
    subject_of,
    verdict,
)
from services.kit.errors import Code, InvalidArgument, NotFound

EVENTS = st.builds(BatchedEvent, st.sampled_from(Kind), st.binary(max_size=300), st.booleans(), st.just(b""))


@given(st.text("abc0-", max_size=40), st.lists(EVENTS, max_size=20))
def test_a_batch_is_decoded_as_it_was_encoded(identifier: str, events: list[BatchedEvent]) -> None:
    batch = Batch(identifier, tuple(events))
    assert decode_batch(encode_batch(batch)) == batch


@given(st.text("abc0-", max_size=40), st.lists(st.binary(max_size=100), max_size=20))
def test_verdicts_are_decoded_as_they_were_encoded(identifier: str, statuses: list[bytes]) -> None:
    decoded = decode_verdicts(encode_verdicts(identifier, statuses))
    assert (decoded.id, list(decoded.statuses)) == (identifier, statuses)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_batch_are_refused(data: bytes) -> None:
    for decode in (decode_batch, decode_verdicts):
        try:
            decode(data)
        except InvalidArgument:
            continue


def test_a_batch_cut_short_or_with_bytes_left_over_is_refused() -> None:
    data = encode_batch(Batch("b", (BatchedEvent(Kind.NODE, b"event"),)))
    for broken in (data[:-1], data + b"x", b"\x09" + data[1:]):
        with pytest.raises(InvalidArgument):
            decode_batch(broken)


def test_size_is_the_bytes_that_events_take_in_a_batch() -> None:
    events = (BatchedEvent(Kind.TASK, b"12345"), BatchedEvent(Kind.WORKFLOW, b""))
    assert len(encode_batch(Batch("", events))) - len(encode_batch(Batch("", ()))) == size(events)


def test_the_lane_of_an_execution_is_the_same_in_all_releases() -> None:
    assert lane_of("flytesnacks", "development", "f0123456789") == 0
    assert {lane_of("p", "d", f"n{number}") for number in range(200)} == set(range(EVENT_LANES))
    assert subject_of(3) == "flyte.events.batch.3"


def test_a_verdict_is_empty_for_ok_and_has_code_and_text_otherwise() -> None:
    assert verdict(None) == b""
    assert parse_verdict(b"") is None
    status = parse_verdict(verdict(NotFound("missing entity")))
    assert status is not None
    assert (status.code, status.message) == (Code.NOT_FOUND, "missing entity")
