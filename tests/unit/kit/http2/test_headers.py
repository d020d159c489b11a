"""Header blocks: valid ones decode to their fields, malformed ones are refused."""

import time
from collections.abc import Sequence

import pytest
from hpack import Decoder, Encoder, HPACKError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from services.kit.http2.headers import (
    MOST_HEADER_BYTES,
    STATUS_200,
    TABLE_EMPTIED,
    HeaderDecoder,
    HeaderError,
    HeaderFieldCache,
    encode,
    request_block,
)
from services.kit.rpc.callers import CLAIMS_HEADER

Fields = list[tuple[bytes, bytes]]

MOST_SECONDS = 0.05  # of CPU, for 1 MB that nothing reads; it takes 0.1 s with the values, a tenth without

# Names of the static table and others; also values of the length where a number needs another byte.
NAMES = st.sampled_from([b":path", b":method", b"content-type", b"te", b"grpc-timeout", b"x"]) | st.binary(
    min_size=1, max_size=40
)
# With the name they have less than 512 bytes in Huffman code, so that they are decoded under any name.
VALUES = st.sampled_from([b"POST", b"GET", b"/", b"", b"x" * 126, b"x" * 127]) | st.binary(max_size=80)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=8)


def as_text(fields: Fields) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in fields}


def encode_block(encoder: Encoder, fields: Fields, *, secret: bool, huffman: bool) -> bytes:
    return encoder.encode([(name, value, secret) for name, value in fields], huffman=huffman)


def encoder_without_table() -> Encoder:
    encoder = Encoder()
    encoder.header_table_size = 0
    return encoder


def acknowledged(cache: HeaderFieldCache | None = None) -> HeaderDecoder:
    """Return the decoder of a client that has applied a dynamic table of size 0."""
    decoder = HeaderDecoder(cache or HeaderFieldCache())
    decoder.settings_acknowledged()
    assert decoder.headers_of(encoder_without_table().encode([])) == {}
    return decoder


@given(st.lists(HEADERS, max_size=5), st.lists(HEADERS, max_size=5), st.booleans(), st.booleans(), st.booleans())
def test_a_dynamic_table_may_be_used_until_its_size_is_zero(
    before: list[Fields], after: list[Fields], secret: bool, huffman: bool, early: bool
) -> None:
    decoder, encoder = HeaderDecoder(HeaderFieldCache()), Encoder()
    for fields in before:
        assert decoder.headers_of(encode_block(encoder, fields, secret=secret, huffman=huffman)) == as_text(fields)
    encoder.header_table_size = 0
    if not early:  # otherwise it applies the size first and acknowledges it later
        decoder.settings_acknowledged()
    for fields in [[], *after]:
        assert decoder.headers_of(encode_block(encoder, fields, secret=secret, huffman=huffman)) == as_text(fields)
    decoder.settings_acknowledged()
    for fields in after:
        assert decoder.headers_of(encode_block(encoder, fields, secret=secret, huffman=huffman)) == as_text(fields)


@given(st.lists(HEADERS, max_size=6), st.booleans(), st.booleans())
def test_repeated_blocks_decode_as_the_first_one(data: list[Fields], secret: bool, huffman: bool) -> None:
    cache = HeaderFieldCache()
    for decoder in (acknowledged(cache), acknowledged(cache)):
        for fields in data * 2:
            assert decoder.headers_of(
                encode_block(encoder_without_table(), fields, secret=secret, huffman=huffman)
            ) == as_text(fields)


@given(HEADERS)
def test_request_block_decodes_the_same_every_time(fields: Fields) -> None:
    block = request_block(fields)
    hpack_decoder, decoder = Decoder(), acknowledged()
    for _ in range(2):
        assert hpack_decoder.decode(block, raw=True) == fields
        assert decoder.headers_of(block) == as_text(fields)


# Envoy's encoding of the name, and values that look like it.
DEADLINE = b"\x00\x89" + HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(b"grpc-timeout")
LIKE_A_DEADLINE = st.lists(
    st.tuples(NAMES, VALUES | st.sampled_from([DEADLINE, DEADLINE + b"\x0115S", DEADLINE[3:]])), max_size=4
)


@given(LIKE_A_DEADLINE, st.binary(max_size=130), LIKE_A_DEADLINE, st.booleans(), st.data())
def test_fields_around_a_deadline_decode_as_by_hpack(
    before: Fields, deadline: bytes, after: Fields, whole: bool, data: st.DataObject
) -> None:
    deadline_field = DEADLINE + encode([(b"", deadline)])[2:]
    block = encode(before) + deadline_field + encode(after)
    if not whole:
        block = block[: data.draw(st.integers(0, len(block)))]
    decoder = acknowledged()
    for _ in range(2):
        try:
            expected = as_text(list(Decoder(max_header_list_size=MOST_HEADER_BYTES).decode(block, raw=True)))
        except HPACKError:
            with pytest.raises(HeaderError):
                decoder.headers_of(block)
        else:
            assert decoder.headers_of(block) == expected


@given(HEADERS, st.booleans(), st.data())
def test_a_corrupted_block_is_an_error_or_other_headers(fields: Fields, huffman: bool, data: st.DataObject) -> None:
    block = bytearray(encode_block(encoder_without_table(), fields, secret=False, huffman=huffman))
    for at in data.draw(st.lists(st.integers(0, len(block) - 1), max_size=4)) if block else ():
        block[at] = data.draw(st.integers(0, 255))
    corrupted = bytes(block[: data.draw(st.integers(0, len(block)))])
    for decoder in (acknowledged(), HeaderDecoder(HeaderFieldCache())):
        try:
            assert isinstance(decoder.headers_of(corrupted), dict)
        except HeaderError:
            continue


@given(st.binary(max_size=60))
def test_any_bytes_are_an_error_or_headers(block: bytes) -> None:
    for decoder in (acknowledged(), HeaderDecoder(HeaderFieldCache())):
        try:
            assert isinstance(decoder.headers_of(block), dict)
        except HeaderError:
            continue


FIELD = b"\x00\x01a\x01b"  # a: b


@pytest.mark.parametrize(
    "block",
    [
        FIELD[:1],
        FIELD[:2],
        FIELD[:3],
        FIELD[:4],
        b"\x40\x01",
        b"\x80",  # there is no field 0
        b"\xbe",  # the first of the dynamic table, which is empty
        b"\x7f\x00\x01b",  # the same, for its name
        b"\xff",
        b"\xff\x80\x80\x80\x80\x80\x80\x80\x01",  # a number above the limit
        b"\x00\x7f\x80\x80\x80\x80\x80\x80\x01",
        b"\x00\x01a\x7f\xff\xff\xff\x7f",  # longer than the block
        b"\x00\x01a\x81\xff",  # no Huffman code
        b"\x21",  # a dynamic table of one byte
        b"\x3f\xe1\x1f",  # one of 4096 bytes
        FIELD + b"\x3f",
    ],
)
def test_a_malformed_block_is_refused(block: bytes) -> None:
    with pytest.raises(HeaderError):
        acknowledged().headers_of(block)


def test_a_dynamic_table_after_its_size_is_zero_is_refused() -> None:
    decoder, encoder = HeaderDecoder(HeaderFieldCache()), Encoder()
    decoder.headers_of(encoder.encode([("a", "b")]))
    decoder.settings_acknowledged()
    with pytest.raises(HeaderError):
        decoder.headers_of(encoder.encode([("a", "b")]))


def test_headers_above_the_limit_are_refused() -> None:
    encoder = Encoder()
    decoder = HeaderDecoder(HeaderFieldCache())
    decoder.headers_of(encoder.encode([("a", "x" * 4000)]))
    with pytest.raises(HeaderError):
        decoder.headers_of(encoder.encode([("a", "x" * 4000)] * (MOST_HEADER_BYTES // 4000 + 1)))


@pytest.mark.parametrize("huffman", [False, True])
def test_large_values_are_decoded_only_of_names_that_services_read(huffman: bool) -> None:
    fields = [(":path", "/a" * 4000), ("content-type", "b" * 4000), ("x-long", "c" * 4000), ("d" * 4000, "e")]
    block = encoder_without_table().encode([*fields, ("x-short", "f")], huffman=huffman)
    decoder = acknowledged()
    for _ in range(2):
        headers = decoder.headers_of(block)
        assert headers == {":path": "/a" * 4000, "content-type": "", "x-long": "", "": "", "x-short": "f"}


@pytest.mark.parametrize("huffman", [False, True])
def test_large_claims_are_decoded_once(huffman: bool) -> None:
    claims = "eyJzdWIi" * 300
    block = encoder_without_table().encode([(CLAIMS_HEADER, claims), ("x-last", "a")], huffman=huffman)
    decoder = acknowledged()
    first = decoder.headers_of(block)
    assert first == {CLAIMS_HEADER: claims, "x-last": "a"}
    assert decoder.headers_of(block)[CLAIMS_HEADER] is first[CLAIMS_HEADER]


def test_repeated_calls_with_large_claims_cost_little_time() -> None:
    deadline = DEADLINE + encode([(b"", b"15S")])[2:]
    block = deadline + encoder_without_table().encode([(CLAIMS_HEADER, "eyJzdWIi" * 300)], huffman=True)
    decoder = acknowledged()
    decoder.headers_of(block)
    began = time.process_time()
    for _ in range(100):  # each takes a microsecond, decoding the value 0.2 ms
        decoder.headers_of(block)
    assert time.process_time() - began < MOST_SECONDS / 10


def test_cached_claims_stay_few() -> None:
    cache = HeaderFieldCache()
    decoder = acknowledged(cache)
    name = CLAIMS_HEADER.encode()
    for number in range(3000):
        value = str(number).encode() * 400
        assert decoder.headers_of(encode([(name, value)])) == {CLAIMS_HEADER: value.decode()}
        assert sum(map(len, cache._large._entries)) <= 1 << 20
        assert sum(map(len, cache._runs._entries)) <= 4 << 20


def test_large_values_cost_little_time() -> None:
    values = [str(number) * 700 for number in range(1000, 1400)]
    block = encoder_without_table().encode([("x", value) for value in values], huffman=True)
    decoder = acknowledged()
    began = time.process_time()
    assert decoder.headers_of(block) == {"x": ""}
    assert time.process_time() - began < MOST_SECONDS


def test_the_header_field_cache_stays_small() -> None:
    cache = HeaderFieldCache()
    decoder = acknowledged(cache)
    seen = 0
    for number in range(10_000):
        value = str(number).encode() if number % 2 else str(number).encode() * 1000
        assert decoder.headers_of(encode([(b"a", value)])) == {"a": value.decode() if number % 2 else ""}
        seen = max(seen, sum(map(len, cache._fields)))
    assert seen < 1 << 20


@given(HEADERS)
def test_encoded_blocks_decode_by_hpack(fields: Fields) -> None:
    assert Decoder().decode(encode(fields), raw=True) == fields
    assert Decoder().decode(TABLE_EMPTIED + STATUS_200 + encode(fields), raw=True) == [(b":status", b"200"), *fields]


@pytest.mark.parametrize("sizes", [(126, 127), (127 + 127, 127 + 128), (127 + 16_383, 127 + 16_384, 200_000)])
def test_lengths_are_encoded_right_where_another_byte_begins(sizes: Sequence[int]) -> None:
    for size in sizes:
        decoder = Decoder(max_header_list_size=1 << 20)
        assert decoder.decode(encode([(b"a", b"x" * size)]), raw=True) == [(b"a", b"x" * size)]
