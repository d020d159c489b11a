"""HPACK (RFC 7541), as much as a client needs that asks for no dynamic table.

Requests are written as literals without indexing, so a block is made once and sent again and again. Answers are read in
full: the static table, literals, and Huffman coding, which servers use at will. A server that has read
SETTINGS_HEADER_TABLE_SIZE = 0 has no dynamic table; an index into one is an error here.
"""

from collections.abc import Iterable

from bench.hpack_tables import CODE_LENGTHS, STATIC_TABLE

_INDEXES = {pair: index for index, pair in reversed(list(enumerate(STATIC_TABLE, 1)))}
_NAMES = {name: index for index, (name, _) in reversed(list(enumerate(STATIC_TABLE, 1)))}
_END_OF_STRING = 256

# First bits of a field and the bits of the integer that follows (RFC 7541, section 6).
_INDEXED, _INDEXED_BITS = 0x80, 7
_INCREMENTAL, _INCREMENTAL_BITS = 0x40, 6
_TABLE_SIZE, _TABLE_SIZE_BITS = 0x20, 5
_LITERAL_BITS = 4
_HUFFMAN, _LENGTH_BITS = 0x80, 7
# Padding is the first bits of end-of-string, all ones, and less than a byte.
_PADDING_MOST = 7
# Seven bits of an integer a byte, the eighth says that more follow.
_MORE = 0x80
# Longer integers are nobody's header; the limit keeps a broken peer from making us count for ever.
_INTEGER_SHIFT_MOST = 28


class HpackError(Exception):
    """A header block cannot be read."""


def encode(fields: Iterable[tuple[str, str]]) -> bytes:
    """Header block of `fields` in which nothing refers to, or is added to, a dynamic table."""
    block = bytearray()
    for name, value in fields:
        if index := _INDEXES.get((name, value)):
            block += _integer(index, _INDEXED_BITS, _INDEXED)
            continue
        index = _NAMES.get(name, 0)
        block += _integer(index, _LITERAL_BITS, 0)
        if not index:
            block += _text(name)
        block += _text(value)
    return bytes(block)


def decode(block: bytes) -> list[tuple[str, str]]:
    """Fields of a header block, in order. Raises HpackError."""
    fields: list[tuple[str, str]] = []
    at = 0
    try:
        while at < len(block):
            first = block[at]
            if first & _INDEXED:
                index, at = _read_integer(block, at, _INDEXED_BITS)
                fields.append(_static(index))
            elif not first & _INCREMENTAL and first & _TABLE_SIZE:
                size, at = _read_integer(block, at, _TABLE_SIZE_BITS)
                if size:
                    raise HpackError(f"the server keeps a dynamic table of {size} bytes that nobody allowed")
            else:
                index, at = _read_integer(block, at, _INCREMENTAL_BITS if first & _INCREMENTAL else _LITERAL_BITS)
                name, at = (_static(index)[0], at) if index else _read_text(block, at)
                value, at = _read_text(block, at)
                fields.append((name, value))
    except IndexError as error:
        raise HpackError("a header block ends early") from error
    return fields


def huffman_decode(data: bytes) -> bytes:
    """Bytes that `data` stands for. Raises HpackError for an end-of-string inside and for wrong padding."""
    decoded = bytearray()
    code = length = 0
    for byte in data:
        for shift in range(7, -1, -1):
            code = code << 1 | byte >> shift & 1
            length += 1
            symbol = _SYMBOLS.get((length, code))
            if symbol is None:
                continue
            if symbol == _END_OF_STRING:
                raise HpackError("Huffman-coded text holds an end-of-string")
            decoded.append(symbol)
            code = length = 0
    if length > _PADDING_MOST or code != (1 << length) - 1:
        raise HpackError("Huffman-coded text has wrong padding")
    return bytes(decoded)


def _symbols() -> dict[tuple[int, int], int]:
    """Symbol of each (length, code). The code is canonical: it follows from the lengths."""
    found: dict[tuple[int, int], int] = {}
    code = last = 0
    for symbol in sorted(range(len(CODE_LENGTHS)), key=lambda symbol: (CODE_LENGTHS[symbol], symbol)):
        length = CODE_LENGTHS[symbol]
        code <<= length - last
        found[length, code] = symbol
        code, last = code + 1, length
    return found


_SYMBOLS = _symbols()


def _static(index: int) -> tuple[str, str]:
    if not 1 <= index <= len(STATIC_TABLE):
        raise HpackError(f"index {index} is not in the static table")
    return STATIC_TABLE[index - 1]


def _integer(value: int, bits: int, first: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    encoded = bytearray((first | most,))
    value -= most
    while value >= _MORE:
        encoded.append(value & ~_MORE & 0xFF | _MORE)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _text(text: str) -> bytes:
    data = text.encode("latin-1")
    return _integer(len(data), _LENGTH_BITS, 0) + data


def _read_integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """Integer at `at`, and where the next thing begins."""
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    for shift in range(0, _INTEGER_SHIFT_MOST + 1, 7):
        byte = block[at]
        at += 1
        value += (byte & ~_MORE) << shift
        if not byte & _MORE:
            return value, at
    raise HpackError("an integer in a header block is too long")


def _read_text(block: bytes, at: int) -> tuple[str, int]:
    huffman = block[at] & _HUFFMAN
    length, at = _read_integer(block, at, _LENGTH_BITS)
    end = at + length
    if end > len(block):
        raise HpackError("a header block ends early")
    data = huffman_decode(block[at:end]) if huffman else block[at:end]
    return data.decode("latin-1"), end
