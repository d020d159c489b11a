"""Parts of one large MessagePack value are found again without walking through it."""

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.sandbox.engine.graph.msgpack_values import select

ITEMS = st.sampled_from(
    (
        *(b"\x00", b"\xff", b"\xc0", b"\xcc\x90", b"\xcd\x90\x90", b"\xce\x90\x90\x90\x90", b"\xcb" + b"\x93" * 8),
        *(b"\xa0", b"\xa2ab", b"\xbf" + b"\x91" * 31, b"\xd9\x02ab", b"\xc4\x01\x91"),
        *(b"\x92\x01\x90", b"\x81\xa1a\x01"),
    )
)


@given(items=st.lists(ITEMS, min_size=1, max_size=20), count=st.integers(1, 700), chosen=st.data())
def test_item_of_a_long_list_is_found(items: list[bytes], count: int, chosen: st.DataObject) -> None:
    values = (items * count)[:700]
    data = b"\xdc" + struct.pack(">H", len(values)) + b"".join(values)
    for _ in range(3):
        index = chosen.draw(st.integers(0, len(values) - 1))
        assert select(data, [index]) == values[index]


def test_many_selections_from_one_value_cost_about_one_walk() -> None:
    count = 200_000
    members = b"".join(b"\xa6%06d\x92\x01\x02" % number for number in range(count))
    data = b"\xdf" + struct.pack(">I", count) + members
    began = time.process_time()
    assert select(data, ["199999"]) == b"\x92\x01\x02"
    first = time.process_time() - began
    began = time.process_time()
    for number in range(count - 60, count):
        assert select(data, [f"{number:06}"]) == b"\x92\x01\x02"
    assert time.process_time() - began < 5 * first


def test_value_that_ends_in_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="ends in the middle"):
        select(b"\xdc\x02\x00" + b"\x01" * 511 + b"\xcd", [511])
