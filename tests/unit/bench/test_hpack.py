"""HPACK against the examples of RFC 7541 and against itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.hpack import HpackError, decode, encode, huffman_decode
from bench.hpack_tables import CODE_LENGTHS, STATIC_TABLE

# RFC 7541, appendices C.2, C.4, C.6 and the code table of appendix B.
HUFFMAN = [
    ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
    ("a8eb10649cbf", "no-cache"),
    ("25a849e95ba97d7f", "custom-key"),
    ("25a849e95bb8e8b4bf", "custom-value"),
    ("6402", "302"),
    ("aec3771a4b", "private"),
    ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
    ("9d29ad171863c78f0b97c8e9ae82ae43d3", "https://www.example.com"),
]
BLOCKS = [
    ("82", [(":method", "GET")]),
    ("040c2f73616d706c652f70617468", [(":path", "/sample/path")]),
    ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", [("custom-key", "custom-header")]),
    ("100870617373776f726406736563726574", [("password", "secret")]),
    ("2088", [(":status", "200")]),
]
BROKEN = ["be", "80", "3f21", "0a", "00056162", "408a", "7fffffffffffff7f", "0081ff81ff", "00", "0084ffffffff00"]


@pytest.mark.parametrize(("coded", "text"), HUFFMAN)
def test_huffman_coded_text_is_read(coded: str, text: str) -> None:
    assert huffman_decode(bytes.fromhex(coded)) == text.encode()


@pytest.mark.parametrize(("block", "fields"), BLOCKS)
def test_a_header_block_of_the_rfc_is_read(block: str, fields: list[tuple[str, str]]) -> None:
    assert decode(bytes.fromhex(block)) == fields


@pytest.mark.parametrize("block", BROKEN)
def test_a_broken_header_block_is_refused(block: str) -> None:
    with pytest.raises(HpackError):
        decode(bytes.fromhex(block))


@given(st.lists(st.tuples(st.text("abcdefgh-:", min_size=1), st.text(st.characters(max_codepoint=255)))))
def test_what_is_encoded_is_decoded(fields: list[tuple[str, str]]) -> None:
    assert decode(encode(fields)) == fields


def test_nothing_that_is_sent_touches_a_dynamic_table() -> None:
    block = encode([("te", "trailers"), (":method", "POST"), (":path", "/a/b")])
    assert block == bytes.fromhex("00027465 08747261696c657273 83 04042f612f62")


def test_the_tables_are_complete() -> None:
    assert len(STATIC_TABLE) == 61
    assert STATIC_TABLE[60] == ("www-authenticate", "")
    # A complete code leaves no sequence of bits unused (Kraft).
    assert len(CODE_LENGTHS) == 257
    assert sum(2.0**-length for length in CODE_LENGTHS) == 1
