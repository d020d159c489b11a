"""Headers as HTTP/2 sends them (HPACK, RFC 7541), for a server that lets its clients remember nothing.

Once a client has heard that the table of remembered headers has no room, a block means the same wherever it stands, and
so does each field of it. Clients say the same fields all the time, so that a field is decoded once and then known by
its bytes. So are all fields before the deadline together, which differs from call to call, and all behind it. Of other
fields that differ the name is known.
"""

from collections.abc import Iterable, Iterator

from hpack import Decoder, Encoder, HPACKError
from hpack.huffman_table import decode_huffman

Headers = dict[str, str]

NO_TABLE = 0
# Either side may remember this much until it has heard otherwise (RFC 9113, SETTINGS_HEADER_TABLE_SIZE).
FIRST_TABLE = 4096
# Of all headers of a request. Envoy lets 60 KiB pass and adds its own; 32 bytes are counted for each besides.
MOST_HEADER_BYTES = 128 * 1024
# Fields that are known by their bytes; when so many different ones were seen, most of them were of one call only.
_FIELDS_KNOWN = 4096
# Of runs of fields, too. Each connection of a client has one of its own.
_RUNS_KNOWN = 2048
# A field, or a run of them, that is longer than this is hardly one that every call has.
_KNOWN_FIELD_BYTES = 512

# Of a field's first byte: which kind it is, and how many bits of it begin a number.
_INDEXED, _REMEMBERED, _RESIZE = 0x80, 0x40, 0x20
_INDEX_BITS, _REMEMBERED_BITS, _PLAIN_BITS, _STRING_BITS = 0x7F, 0x3F, 0x0F, 0x7F
_HUFFMAN = 0x80  # of a string's first byte
_DEADLINE = "grpc-timeout"
# How Envoy begins that field: not to be remembered, its name spelled out in Huffman's code.
_DEADLINE_BEGINS = b"\x00\x89\x9a\xca\xc8\xb2\x4d\x49\x4f\x6a\x7f"
# A number's bytes: seven bits each, the lowest first, and one that says whether more follow.
_MORE, _SEVEN = 0x80, 0x7F
# Five bytes are enough for any length that there is.
_MOST_NUMBER_BITS = 28


class HeaderError(Exception):
    """A block is none."""


class HeaderFieldCache:
    """The fields that clients without a table have sent, by their bytes; shared by all connections of a server."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[str, str]] = {}
        self._runs: dict[bytes, Headers] = {}
        self._names: dict[bytes, str] = {}
        self._decoder = _decoder()
        self._decoder.header_table_size = NO_TABLE
        self._decoder.max_allowed_table_size = NO_TABLE

    def headers_of(self, block: bytes) -> Headers:
        """Decode a block; raises HeaderError."""
        before, _, rest = block.partition(_DEADLINE_BEGINS)
        if not rest or (size := rest[0] & _STRING_BITS) == _STRING_BITS or size >= len(rest):
            return self._decoded(block)
        try:
            # Where whole fields stand before it, it begins a field and is no part of another's value.
            first = self._run(before)
        except HeaderError:
            return self._decoded(block)
        field = _DEADLINE_BEGINS + rest[: 1 + size]
        _, deadline = self._known.get(field) or self._learn(field)
        return {**first, _DEADLINE: deadline, **self._run(rest[1 + size :])}

    def _run(self, fields: bytes) -> Headers:
        """Decode fields that callers say together; nobody may change what is returned."""
        headers = self._runs.get(fields)
        if headers is None:
            headers = self._decoded(fields)
            if len(fields) <= _KNOWN_FIELD_BYTES:
                if len(self._runs) >= _RUNS_KNOWN:
                    self._runs.clear()
                self._runs[fields] = headers
        return headers

    def _decoded(self, block: bytes) -> Headers:
        known = self._known
        headers = {}
        for field in _fields(block):
            name, value = known.get(field) or self._learn(field)
            headers[name] = value
        return headers

    def _learn(self, field: bytes) -> tuple[str, str]:
        begins = _value_begins(field)
        try:
            name = self._names.get(field[:begins]) if begins else None
            if name is None:
                ((name, value),) = _text(self._decoder.decode(field, raw=True))
            else:
                value = _short_string(field, begins)
        except (HPACKError, ValueError) as error:
            raise HeaderError from error
        if len(field) <= _KNOWN_FIELD_BYTES:
            if len(self._known) >= _FIELDS_KNOWN:
                self._known.clear()
                self._names.clear()
            self._known[field] = (name, value)
            if begins:
                self._names[field[:begins]] = name
        return name, value


class HeaderDecoder:
    """The header blocks of one connection."""

    def __init__(self, known: HeaderFieldCache) -> None:
        self._known = known
        self._decoder = _decoder()
        self._told = False
        self._forgotten = False

    def told(self) -> None:
        """The client has acknowledged that it may remember nothing; the next block takes that up."""
        self._told = True
        self._decoder.max_allowed_table_size = NO_TABLE

    def headers_of(self, block: bytes) -> Headers:
        """Decode a block; raises HeaderError. Blocks must come in the order in which they were sent."""
        if self._forgotten:
            return self._known.headers_of(block)
        try:
            headers = dict(_text(self._decoder.decode(block, raw=True)))
        except HPACKError as error:
            raise HeaderError from error
        self._forgotten = self._told and self._decoder.header_table_size == NO_TABLE
        return headers


def encoded(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A block that any client understands; nothing of it is to be remembered. `:status` is always 200."""
    return b"".join(_literal(name, value) for name, value in headers)


def request_block(headers: Iterable[tuple[str | bytes, str | bytes]]) -> bytes:
    """Return a block of a client without a dynamic table; it means the same however often it is sent."""
    encoder = Encoder()
    encoder.header_table_size = NO_TABLE
    return encoder.encode(headers, huffman=False)


TABLE_EMPTIED = bytes((_RESIZE,))
"""Says at the beginning of a block that nothing is remembered any more."""

STATUS_200 = b"\x88"
"""`:status: 200` in a block; the eighth of the headers that everybody knows."""


def _decoder() -> Decoder:
    return Decoder(max_header_list_size=MOST_HEADER_BYTES)


def _text(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + _number(len(name), _STRING_BITS) + name + _number(len(value), _STRING_BITS) + value


def _number(value: int, bits: int) -> bytes:
    if value < bits:
        return bytes((value,))
    out = bytearray((bits,))
    value -= bits
    while value > _SEVEN:
        out.append(value & _SEVEN | _MORE)
        value >>= 7
    out.append(value)
    return bytes(out)


def _fields(block: bytes) -> Iterator[bytes]:
    """Cut a block into its fields; raises HeaderError when it ends within one."""
    at = 0
    end = len(block)
    try:
        while at < end:
            began = at
            first = block[at]
            if first & _INDEXED:
                at = _after_number(block, at, _INDEX_BITS)
            elif first & (_REMEMBERED | _RESIZE) == _RESIZE:
                if first != _RESIZE:  # to more than no room at all, which is what there is
                    raise HeaderError
                at += 1
                continue
            else:
                bits = _REMEMBERED_BITS if first & _REMEMBERED else _PLAIN_BITS
                named = first & bits
                at = _after_number(block, at, bits)
                if not named:
                    at = _after_string(block, at)
                at = _after_string(block, at)
            if at > end:
                raise HeaderError
            yield block[began:at]
    except IndexError as error:
        raise HeaderError from error


def _value_begins(field: bytes) -> int:
    """Where the value of a field stands that spells its name out; 0 for other fields and for long values."""
    if field[0] not in {0, _REMEMBERED}:
        return 0
    at = _after_string(field, 1)
    return at if field[at] & _STRING_BITS != _STRING_BITS else 0


def _short_string(field: bytes, at: int) -> str:
    """The string whose one byte of length stands at `at`, and which ends the field."""
    text = field[at + 1 :]
    return (decode_huffman(text) if field[at] & _HUFFMAN else text).decode("latin-1")


def _after_number(block: bytes, at: int, bits: int) -> int:
    if block[at] & bits != bits:
        return at + 1
    at += 1
    while block[at] & _MORE:
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
            length += (byte & _SEVEN) << shift
            if not byte & _MORE:
                break
            shift += 7
            if shift > _MOST_NUMBER_BITS:
                raise HeaderError
    return at + length
