"""Header blocks of HTTP/2 (HPACK, RFC 7541), for a server that allows no dynamic table.

Once a client has acknowledged a dynamic table of size 0, a block always means the same, and so does each of its fields.
Clients send the same fields with every call, so a decoded field is cached by its encoded bytes. The run of all fields
before the deadline, which differs from call to call, is cached as a whole, and so is the run after it. For other fields
that differ, the name is cached. Values that are large and that services do not read are not decoded; the claims of a
token are large, and cached.
"""

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from hpack import Decoder, Encoder, HPACKError
from hpack.huffman_table import decode_huffman

from services.kit.rpc.callers import CLAIMS_HEADER

Headers = dict[str, str]
Decoded = TypeVar("Decoded")

NO_TABLE = 0
# Size of the dynamic table until settings change it (RFC 9113, SETTINGS_HEADER_TABLE_SIZE).
FIRST_TABLE = 4096
# Limit of all headers of a request. Envoy passes 16 KiB in up to 100 fields, adds the original path and a few of its
# own; each field counts 32 bytes in addition.
MOST_HEADER_BYTES = 64 * 1024
# Cached fields. The cache is cleared when it is full: most of its fields were then of one call only.
_MOST_FIELDS = 4096
# Cached runs of fields, and the bytes of all of them; each client connection has one of its own.
_MOST_RUNS = 2048
_MOST_RUN_BYTES = 4 * 1024 * 1024
# A field that is longer than this is unlikely to be repeated.
_MOST_CACHED_BYTES = 512
# A run that is longer is unlikely to be, too. One with the claims of a token has 1 to 3 KiB.
_MOST_CACHED_RUN_BYTES = 4096

# Fields whose value is decoded although it is large: decoding takes 0.1 ms a KiB, in which no other call is served.
# All others that services read are short.
_READ_WHEN_LARGE = frozenset({":path", CLAIMS_HEADER})
# Of these, fields that clients repeat with every call, so that they are cached: claims are the same as long as a token
# is used. Their bytes together: hundreds of tokens of 2 KiB, and some of the largest that Envoy accepts.
_REPEATED_WHEN_LARGE = frozenset({CLAIMS_HEADER})
_MOST_LARGE_BYTES = 1024 * 1024
_EMPTY_STRING = b"\0"

# The first byte of a field: its kind, and the bits that begin a number.
_INDEXED_FIELD, _INCREMENTAL, _TABLE_SIZE_UPDATE = 0x80, 0x40, 0x20
_INDEX_BITS, _INCREMENTAL_BITS, _PLAIN_BITS, _STRING_BITS = 0x7F, 0x3F, 0x0F, 0x7F
_HUFFMAN = 0x80  # of a string's first byte
_DEADLINE = "grpc-timeout"
# Envoy's encoding of that field up to its value: without indexing, the name as a Huffman-coded literal.
_DEADLINE_NAME = b"\x00\x89\x9a\xca\xc8\xb2\x4d\x49\x4f\x6a\x7f"
# Bytes of a number: seven bits each, the lowest first, and one bit that is set when more follow.
_CONTINUES, _LOW_BITS = 0x80, 0x7F
# Five bytes are enough for any possible length.
_MOST_SHIFT = 28


class HeaderError(Exception):
    """A header block is malformed."""


class HeaderFieldCache:
    """Decoded fields by their encoded bytes, from clients without a dynamic table; shared by a server's connections."""

    def __init__(self) -> None:
        self._fields: dict[bytes, tuple[str, str]] = {}
        self._large = _BoundedCache[tuple[str, str]](_MOST_FIELDS, _MOST_LARGE_BYTES)
        self._runs = _BoundedCache[Headers](_MOST_RUNS, _MOST_RUN_BYTES)
        self._names: dict[bytes, str] = {}
        self._decoder = _decoder()
        self._decoder.header_table_size = NO_TABLE
        self._decoder.max_allowed_table_size = NO_TABLE

    def headers_of(self, block: bytes) -> Headers:
        """Decode a block; raise HeaderError for a malformed one."""
        before, _, rest = block.partition(_DEADLINE_NAME)
        if not rest or (size := rest[0] & _STRING_BITS) == _STRING_BITS or size >= len(rest):
            return self._decode(block)
        try:
            # If the bytes before it are whole fields, the name begins a field and is not part of another's value.
            first = self._decode_run(before)
        except HeaderError:
            return self._decode(block)
        field = _DEADLINE_NAME + rest[: 1 + size]
        _, deadline = self._fields.get(field) or self._decode_field(field)
        return {**first, _DEADLINE: deadline, **self._decode_run(rest[1 + size :])}

    def _decode_run(self, fields: bytes) -> Headers:
        """Decode a run of fields that calls have in common; callers must not change the result."""
        headers = self._runs.get(fields)
        if headers is None:
            headers = self._decode(fields)
            if len(fields) <= _MOST_CACHED_RUN_BYTES:
                self._runs.put(fields, headers)
        return headers

    def _decode(self, block: bytes) -> Headers:
        cached = self._fields
        headers = {}
        for field in _split(block):
            name, value = cached.get(field) or self._decode_field(field)
            headers[name] = value
        return headers

    def _decode_field(self, field: bytes) -> tuple[str, str]:
        if len(field) > _MOST_CACHED_BYTES:
            return self._decode_large(field)
        value_at = _value_index(field)
        try:
            name = self._names.get(field[:value_at]) if value_at else None
            if name is None:
                ((name, value),) = _as_text(self._decoder.decode(field, raw=True))
            else:
                value = _short_string(field, value_at)
        except (HPACKError, ValueError) as error:
            raise HeaderError from error
        if len(self._fields) >= _MOST_FIELDS:
            self._fields.clear()
            self._names.clear()
        self._fields[field] = (name, value)
        if value_at:
            self._names[field[:value_at]] = name
        return name, value

    def _decode_large(self, field: bytes) -> tuple[str, str]:
        """Decode the name of a large field; its value only if services read it, otherwise return ""."""
        cached = self._large.get(field)
        if cached is not None:
            return cached
        value_at = _large_value_index(field)
        if value_at > _MOST_CACHED_BYTES:
            return "", ""
        try:
            ((name, value),) = _as_text(self._decoder.decode(field[:value_at] + _EMPTY_STRING, raw=True))
            if name in _READ_WHEN_LARGE:
                ((name, value),) = _as_text(self._decoder.decode(field, raw=True))
        except (HPACKError, ValueError) as error:
            raise HeaderError from error
        if name in _REPEATED_WHEN_LARGE:
            self._large.put(field, (name, value))
        return name, value


class _BoundedCache(Generic[Decoded]):
    """Decoded fields by their bytes: `most` of them, with `most_bytes` together. It is cleared when it is full."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._entries: dict[bytes, Decoded] = {}
        self.get = self._entries.get

    def put(self, key: bytes, decoded: Decoded) -> None:
        """Add an entry that is not there."""
        self._bytes += len(key)
        if len(self._entries) >= self._most or self._bytes > self._most_bytes:
            self._entries.clear()
            self._bytes = len(key)
        self._entries[key] = decoded


class HeaderDecoder:
    """Decodes the header blocks of one connection."""

    def __init__(self, cache: HeaderFieldCache) -> None:
        self._cache = cache
        self._decoder = _decoder()
        self._acknowledged = False
        self._stateless = False

    def settings_acknowledged(self) -> None:
        """Note that the client has acknowledged a dynamic table of size 0; its next block applies that."""
        self._acknowledged = True
        self._decoder.max_allowed_table_size = NO_TABLE

    def headers_of(self, block: bytes) -> Headers:
        """Decode a block; raise HeaderError for a malformed one. Blocks must be passed in the order received."""
        if self._stateless:
            return self._cache.headers_of(block)
        try:
            headers = dict(_as_text(self._decoder.decode(block, raw=True)))
        except HPACKError as error:
            raise HeaderError from error
        self._stateless = self._acknowledged and self._decoder.header_table_size == NO_TABLE
        return headers


def encode(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a block of literal fields without indexing; prepend `STATUS_200` for the status."""
    return b"".join(_literal(name, value) for name, value in headers)


def request_block(headers: Iterable[tuple[str | bytes, str | bytes]]) -> bytes:
    """Return a block of a client without a dynamic table; it means the same however often it is sent."""
    encoder = Encoder()
    encoder.header_table_size = NO_TABLE
    return encoder.encode(headers, huffman=False)


TABLE_EMPTIED = bytes((_TABLE_SIZE_UPDATE,))
"""A dynamic table size update to 0, for the beginning of a block."""

STATUS_200 = b"\x88"
"""`:status: 200` in a block: the eighth field of the static table."""


def _decoder() -> Decoder:
    return Decoder(max_header_list_size=MOST_HEADER_BYTES)


def _as_text(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + _number(len(name), _STRING_BITS) + name + _number(len(value), _STRING_BITS) + value


def _number(value: int, bits: int) -> bytes:
    if value < bits:
        return bytes((value,))
    out = bytearray((bits,))
    value -= bits
    while value > _LOW_BITS:
        out.append(value & _LOW_BITS | _CONTINUES)
        value >>= 7
    out.append(value)
    return bytes(out)


def _split(block: bytes) -> Iterator[bytes]:
    """Split a block into its encoded fields; raise HeaderError when it ends within one."""
    at = 0
    end = len(block)
    try:
        while at < end:
            start = at
            first = block[at]
            if first & _INDEXED_FIELD:
                at = _after_number(block, at, _INDEX_BITS)
            elif first & (_INCREMENTAL | _TABLE_SIZE_UPDATE) == _TABLE_SIZE_UPDATE:
                if first != _TABLE_SIZE_UPDATE:  # to a size above 0, which the server does not allow
                    raise HeaderError
                at += 1
                continue
            else:
                bits = _INCREMENTAL_BITS if first & _INCREMENTAL else _PLAIN_BITS
                name_index = first & bits
                at = _after_number(block, at, bits)
                if not name_index:
                    at = _after_string(block, at)
                at = _after_string(block, at)
            if at > end:
                raise HeaderError
            yield block[start:at]
    except IndexError as error:
        raise HeaderError from error


def _value_index(field: bytes) -> int:
    """Return the index of the value in a field with a literal name; 0 for other fields and for long values."""
    if field[0] not in {0, _INCREMENTAL}:
        return 0
    at = _after_string(field, 1)
    return at if field[at] & _STRING_BITS != _STRING_BITS else 0


def _large_value_index(field: bytes) -> int:
    """Return the index of the value in a large field."""
    bits = _INCREMENTAL_BITS if field[0] & _INCREMENTAL else _PLAIN_BITS
    at = _after_number(field, 0, bits)
    return at if field[0] & bits else _after_string(field, at)


def _short_string(field: bytes, at: int) -> str:
    """Return the string that ends the field and whose one byte of length is at index `at`."""
    text = field[at + 1 :]
    return (decode_huffman(text) if field[at] & _HUFFMAN else text).decode("latin-1")


def _after_number(block: bytes, at: int, bits: int) -> int:
    if block[at] & bits != bits:
        return at + 1
    at += 1
    while block[at] & _CONTINUES:
        at += 1
    return at + 1


def _after_string(block: bytes, at: int) -> int:
    length = block[at] & _STRING_BITS
    at += 1
    if length == _STRING_BITS:
        shift = 0
        while True:
            byte = block[at]
            at += 1
            length += (byte & _LOW_BITS) << shift
            if not byte & _CONTINUES:
                break
            shift += 7
            if shift > _MOST_SHIFT:
                raise HeaderError
    return at + length
