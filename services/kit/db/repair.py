"""Find stored messages that have no form as JSON, and drop the fields that are to blame; the rest is kept.

Releases before the check of requests (`readable`) took such values. A service names the columns; its command `repair`
is made here. Rows are read page by page and without a lock; one that is changed meanwhile is left for the next run.
"""

import argparse
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError, Message
from psycopg import sql

from services.kit.db.database import Connection, Database, at_terminal
from services.kit.process.service import Command
from services.kit.process.settings import ProcessSettings
from services.kit.protobuf.readable import MOST_LEVELS, SHOWN, TOO_DEEP, Unreadable, depth_check, map_value

# Rows have some kilobytes, a few of them megabytes.
_ROWS_AT_ONCE = 200
_BROKEN = "the stored bytes are no such message; left as they are"
_FOUND = 1
"""Exit status while there are rows that cannot be shown."""

Prepare = Callable[[Connection], Awaitable[object]]


@dataclass(frozen=True)
class Column:
    """A column of serialized messages."""

    name: str
    kind: type[Message]
    levels: int
    """How deep in answers the message stands."""


@dataclass(frozen=True)
class Stored:
    """A table with such columns."""

    table: str
    key: Sequence[str]
    """The columns of its primary key, in order."""
    named_by: Sequence[str]
    """The columns by which people know a row."""
    columns: Sequence[Column]


@dataclass(frozen=True)
class Found:
    """A stored message that cannot be shown."""

    row: str
    key: Sequence[Any]
    column: Column
    before: bytes
    after: bytes
    dropped: Sequence[str]
    """Which fields, and why."""


def command(service: str, tables: Sequence[Stored], prepare: Prepare | None = None) -> Command[Any]:
    """Return the command `repair` of a service; `prepare` begins every transaction that changes rows."""

    async def repair(settings: ProcessSettings, arguments: Sequence[str]) -> int:
        options = argparse.ArgumentParser(
            prog=f"python -m services.{service} repair",
            description="Lists what is stored and cannot be written as JSON, a line each: the row, and the fields to "
            "blame. Lists over REST answer INTERNAL for as long as it is there. The service may run meanwhile.",
        )
        options.add_argument("--drop", action="store_true", help="drop those fields for good; the rest is kept")
        chosen = options.parse_args(arguments)
        left = 0
        async with at_terminal(settings.database_url) as db:
            for table in tables:
                left += await _repair(db, table, prepare, drop=chosen.drop)
        return _FOUND if left else 0

    return Command("find stored messages that cannot be shown as JSON, and mend them", repair)


async def _repair(db: Database, table: Stored, prepare: Prepare | None, *, drop: bool) -> int:
    """Go through one table; answers how many messages are left that cannot be shown."""
    left = 0
    after: Sequence[Any] | None = None
    while rows := await _page(db, table, after):
        after = rows[-1][: len(table.key)]
        found = [each for row in rows for each in _found(table, row)]
        mended = await _mend(db, table, found, prepare) if drop and found else set()
        left += len(found) - len(mended)
        for number, each in enumerate(found):
            done = "dropped" if number in mended else "found"
            sys.stdout.writelines(
                f"{done} {table.table} {each.row} {each.column.name}.{what}\n" for what in each.dropped
            )
    return left


async def _page(db: Database, table: Stored, after: Sequence[Any] | None) -> list[tuple[Any, ...]]:
    names = [*table.key, *table.named_by, *(column.name for column in table.columns)]
    statement = sql.SQL("SELECT {names} FROM {table} {where} ORDER BY {key} LIMIT {most}").format(
        names=_names(names),
        table=sql.Identifier(table.table),
        where=sql.SQL("WHERE ({}) > ({})").format(_names(table.key), _values(after)) if after else sql.SQL(""),
        key=_names(table.key),
        most=sql.Literal(_ROWS_AT_ONCE),
    )
    async with db.read() as connection:
        cursor = await connection.execute(statement, binary=True)
        return await cursor.fetchall()


async def _mend(db: Database, table: Stored, found: Sequence[Found], prepare: Prepare | None) -> set[int]:
    """Write what is left of the messages found; answers which were, by number. Rows changed meanwhile are not."""
    mended = set()
    async with db.transaction() as connection:
        if prepare is not None:
            await prepare(connection)
        for number, each in enumerate(found):
            if each.before == each.after:
                continue
            statement = sql.SQL(
                "UPDATE {table} SET {column} = %(after)s WHERE ({key}) = ({values}) AND {column} = %(before)s"
            ).format(
                table=sql.Identifier(table.table),
                column=sql.Identifier(each.column.name),
                key=_names(table.key),
                values=_values(each.key),
            )
            cursor = await connection.execute(statement, {"after": each.after, "before": each.before})
            if cursor.rowcount:
                mended.add(number)
    return mended


def _names(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _values(values: Sequence[Any]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Literal, values))


def _found(table: Stored, row: Sequence[Any]) -> Iterator[Found]:
    key, rest = row[: len(table.key)], row[len(table.key) :]
    named, cells = rest[: len(table.named_by)], rest[len(table.named_by) :]
    for column, cell in zip(table.columns, cells, strict=True):
        if cell is not None:
            before = bytes(cell)
            after, dropped = repaired(column, before)
            if dropped:
                yield Found("/".join(map(str, named)), key, column, before, after, dropped)


def repaired(column: Column, payload: bytes) -> tuple[bytes, list[str]]:
    """Return the message without what cannot be shown, and what was dropped: nothing, and it is as it was."""
    check_depth = depth_check(column.kind, column.levels)
    try:
        message = column.kind.FromString(payload)
    except DecodeError:
        return payload, [_BROKEN]
    try:
        check_depth(payload)
        SHOWN.check(message)
    except Unreadable:
        dropped = list(_drop(message, MOST_LEVELS - column.levels))
    else:
        return payload, []
    try:
        check_depth(message.SerializeToString())
    except Unreadable:
        message.DiscardUnknownFields()
        dropped.append(f"fields of later releases: {TOO_DEEP}")
    return message.SerializeToString(), dropped


def _drop(message: Message, levels: int) -> Iterator[str]:
    """Clear every field within `message` that cannot be shown, or whose message stands deeper than `levels`."""
    for field, value in message.ListFields():
        if map_value(field) is not None:
            members = [(value[key], levels - 2, (value.__delitem__, key)) for key in list(value)]
        elif field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        elif field.is_repeated:
            # From the end, as each that is deleted moves those after it.
            members = [(value[at], levels - 1, (value.__delitem__, at)) for at in reversed(range(len(value)))]
        else:
            members = [(value, levels - 1, (message.ClearField, field.name))]
        for member, levels_left, (clear, where) in members:
            fault = TOO_DEEP if levels_left < 0 else _fault(member)
            if fault:
                clear(where)
                yield f"{field.name}: {fault}"
            else:
                yield from (f"{field.name}.{what}" for what in _drop(member, levels_left))


def _fault(value: Message) -> str:
    """Say why a value by itself cannot be shown, leaving out what is within it; empty when it can."""
    if value.ListFields() and any(field.message_type is not None for field, _ in value.ListFields()):
        return ""
    try:
        SHOWN.check(value)
    except Unreadable as unreadable:
        return unreadable.fault
    return ""
