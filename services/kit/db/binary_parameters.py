"""Values in PostgreSQL's binary format, for statements that take a whole batch as arrays.

The driver finds out the type of every element of a list anew, which costs more than all else that happens to a row.
Here the caller says the type, and an array is a few calls.
"""

import struct
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from psycopg import errors

_BOOL, _BYTEA, _INT8, _INT4, _TEXT, _TIMESTAMPTZ = 16, 17, 20, 23, 25, 1184

_DIMENSIONS = struct.Struct(">iiIii")  # how many, whether there are nulls, type of elements; length, first index
_EMPTY = struct.Struct(">iiI")
_LENGTH = struct.Struct(">i")
_LONG = struct.Struct(">q")
_INT = struct.Struct(">i")
_NULL = _LENGTH.pack(-1)
_BOOLS = (b"\x00", b"\x01")

# PostgreSQL counts from the year 2000.
_FIRST_MICROSECOND = 946_684_800_000_000
_FIRST = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def texts(values: Iterable[str | None]) -> bytes:
    """A text[]."""
    return _array(_TEXT, [None if value is None else value.encode() for value in values])


def byteas(values: Iterable[bytes]) -> bytes:
    """A bytea[]."""
    return _array(_BYTEA, list(values))


def bools(values: Iterable[bool]) -> bytes:
    """A bool[]."""
    return _array(_BOOL, [_BOOLS[value] for value in values])


def ints(values: Iterable[int]) -> bytes:
    """An int[]; raises NumericValueOutOfRange."""
    return _numbers(_INT4, _INT, values)


def bigints(values: Iterable[int | None]) -> bytes:
    """A bigint[]; raises NumericValueOutOfRange."""
    return _numbers(_INT8, _LONG, values)


def timestamps(values: Iterable[int | None]) -> bytes:
    """A timestamptz[] of microseconds since 1970."""
    from_2000 = (None if value is None else value - _FIRST_MICROSECOND for value in values)
    return _numbers(_TIMESTAMPTZ, _LONG, from_2000)


def bigint(value: int) -> bytes:
    """A bigint."""
    return _LONG.pack(value)


def timestamp(moment: datetime) -> bytes:
    """A timestamptz."""
    return _LONG.pack((moment - _FIRST) // _MICROSECOND)


def read_int(value: bytes | None) -> int:
    """A number that is not null, of any of the sizes."""
    return int.from_bytes(value or b"", signed=True)


def read_text(value: bytes | None) -> str:
    """A text that is not null."""
    return (value or b"").decode()


def read_bool(value: bytes | None) -> bool:
    """A bool that is not null."""
    return value == _BOOLS[True]


def read_timestamp(value: bytes | None) -> datetime | None:
    """A timestamptz, or null."""
    return None if value is None else _FIRST + read_int(value) * _MICROSECOND


def _numbers(kind: int, layout: struct.Struct, values: Iterable[int | None]) -> bytes:
    pack = layout.pack
    try:
        return _array(kind, [None if value is None else pack(value) for value in values])
    except struct.error as error:
        raise errors.NumericValueOutOfRange("a number is out of its column's range") from error


def _array(kind: int, elements: list[bytes | None]) -> bytes:
    if not elements:
        return _EMPTY.pack(0, 0, kind)
    length = _LENGTH.pack
    parts = [_DIMENSIONS.pack(1, None in elements, kind, len(elements), 1)]
    for element in elements:
        if element is None:
            parts.append(_NULL)
        else:
            parts += (length(len(element)), element)
    return b"".join(parts)
