"""The frames in which applied batches travel to the event log."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.applied_batches import (
    AppliedBatch,
    TakeReply,
    TakeRequest,
    decode_reply,
    decode_request,
    decode_rows,
    encode_reply,
    encode_request,
    encode_rows,
)
from services.kit.errors import InvalidArgument

IDS = st.integers(1, 2**63 - 1)
ROWS = st.builds(
    AppliedBatch,
    id=IDS,
    lane=st.integers(0, 2**15 - 1),
    received_at=st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  # hypothesis adds it
    batch_id=st.text(max_size=50),
    fingerprints=st.none() | st.binary(max_size=50),
    payload=st.binary(max_size=50),
    verdicts=st.binary(max_size=50),
)
ROW = AppliedBatch(7, 0, datetime(2026, 11, 30, tzinfo=UTC), "batch", b"12345678", b"payload", b"")


@given(st.lists(ROWS, max_size=5))
def test_rows_are_the_same_after_their_way(rows: list[AppliedBatch]) -> None:
    assert decode_rows(encode_rows(rows)) == rows


@given(st.lists(IDS, max_size=5).map(tuple), IDS, st.integers(0, 2**40))
def test_a_request_is_the_same_after_its_way(logged: tuple[int, ...], first: int, offset: int) -> None:
    request = TakeRequest(logged, first, offset)
    assert decode_request(encode_request(request)) == request


@given(IDS, st.integers(0, 2**40), st.booleans(), st.binary(max_size=50))
def test_a_reply_is_the_same_after_its_way(first: int, offset: int, more: bool, part: bytes) -> None:
    reply = TakeReply(first, offset, offset + len(part), more, part)
    assert decode_reply(encode_reply(reply)) == reply


@pytest.mark.parametrize("end", range(1, len(encode_rows([ROW]))))
def test_rows_that_end_early_are_invalid(end: int) -> None:
    with pytest.raises(InvalidArgument):
        decode_rows(encode_rows([ROW])[:end])


def test_rows_whose_id_is_no_text_are_invalid() -> None:
    with pytest.raises(InvalidArgument):
        decode_rows(encode_rows([ROW]).replace(b"batch", b"\xff" * 5))


@pytest.mark.parametrize("data", [b"", b"\x01", encode_request(TakeRequest((1,)))[:-1], b"\x02" + b"\0" * 20])
def test_a_request_that_cannot_be_read_is_invalid(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        decode_request(data)


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x02" + b"\0" * 25])
def test_a_reply_that_cannot_be_read_is_invalid(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        decode_reply(data)
