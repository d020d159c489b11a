"""Parameters and results in PostgreSQL's binary format, for statements that take a whole batch as arrays.

The driver determines the type of every element of a list, which costs more than all other work on a row. Here the
caller chooses the type, and an array takes a few calls.
"""

import struct
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from psycopg import errors

_BOOL, _BYTEA, _INT8, _INT4, _TEXT, _TIMESTAMPTZ = 16, 17, 20, 23, 25, 1184

# Number of dimensions, whether there are nulls, element type; length, first index.
_DIMENSIONS = struct.Struct(">iiIii")
_EMPTY = struct.Struct(">iiI")
_LENGTH = struct.Struct(">i")
_LONG = struct.Struct(">q")
_INT = struct.Struct(">i")
_NULL = _LENGTH.pack(-1)
_BOOLS = (b"\x00", b"\x01")

# PostgreSQL counts from the year 2000.
_EPOCH_MICROSECONDS = 946_684_800_000_000
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def texts(values: Iterable[str | None]) -> bytes:
    """Return a text[]."""
    return _array(_TEXT, [None if value is None else value.encode() for value in values])


def byteas(values: Iterable[bytes]) -> bytes:
    """Return a bytea[]."""
    return _array(_BYTEA, list(values))


def bools(values: Iterable[bool]) -> bytes:
    """Return a bool[]."""
    return _array(_BOOL, [_BOOLS[value] for value in values])


def ints(values: Iterable[int]) -> bytes:
    """Return an int[]; raise NumericValueOutOfRange for a larger number."""
    return _numbers(_INT4, _INT, values)


def bigints(values: Iterable[int | None]) -> bytes:
    """Return a bigint[]; raise NumericValueOutOfRange for a larger number."""
    return _numbers(_INT8, _LONG, values)


def timestamps(values: Iterable[int | None]) -> bytes:
    """Return a timestamptz[]; `values` are microseconds since 1970."""
    from_2000 = (None if value is None else value - _EPOCH_MICROSECONDS for value in values)
    return _numbers(_TIMESTAMPTZ, _LONG, from_2000)


def bigint(value: int) -> bytes:
    """Return a bigint."""
    return _LONG.pack(value)


def timestamp(moment: datetime) -> bytes:
    """Return a timestamptz."""
    return _LONG.pack((moment - _EPOCH) // _MICROSECOND)


def read_int(value: bytes | None) -> int:
    """Return the integer in a column of any size that is not null."""
    return int.from_bytes(value or b"", signed=True)


def read_text(value: bytes | None) -> str:
    """Return the text in a column that is not null."""
    return (value or b"").decode()


def read_bool(value: bytes | None) -> bool:
    """Return the bool in a column that is not null."""
    return value == _BOOLS[True]


def read_timestamp(value: bytes | None) -> datetime | None:
    """Return the timestamptz in a column; None for null."""
    return None if value is None else _EPOCH + read_int(value) * _MICROSECOND


def _numbers(type_oid: int, layout: struct.Struct, values: Iterable[int | None]) -> bytes:
    pack = layout.pack
    try:
        return _array(type_oid, [None if value is None else pack(value) for value in values])
    except struct.error as error:
        raise errors.NumericValueOutOfRange("a number is out of its column's range") from error


def _array(type_oid: int, elements: list[bytes | None]) -> bytes:
    if not elements:
        return _EMPTY.pack(0, 0, type_oid)
    length = _LENGTH.pack
    parts = [_DIMENSIONS.pack(1, None in elements, type_oid, len(elements), 1)]
    for element in elements:
        if element is None:
            parts.append(_NULL)
        else:
            parts += (length(len(element)), element)
    return b"".join(parts)
