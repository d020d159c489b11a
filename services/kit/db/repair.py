"""The command `repair`: find stored messages that cannot be written as JSON, and drop the fields that cause it.

Releases before the check of requests (`readable`) accepted such values. A service declares its columns of messages.
Rows are read in pages and without locks; the next run repairs those that change meanwhile.
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
from services.kit.protobuf.readable import (
    JSON_REPLY_RULE,
    MOST_LEVELS,
    TOO_DEEP,
    UnreadableValue,
    depth_check,
    map_value,
)

# Rows have some kilobytes, few of them megabytes.
_ROWS_AT_ONCE = 200
_BROKEN = "the stored bytes are no such message; left as they are"
_EXIT_BAD_MESSAGES = 1
"""Exit status when bad messages remain."""

Prepare = Callable[[Connection], Awaitable[object]]


@dataclass(frozen=True)
class Column:
    """A column of serialized messages."""

    name: str
    message_type: type[Message]
    levels: int
    """How deep the message is nested in replies."""


@dataclass(frozen=True)
class Stored:
    """A table with columns of serialized messages."""

    table: str
    key: Sequence[str]
    """The columns of its primary key, in order."""
    named_by: Sequence[str]
    """The columns by which users identify a row."""
    columns: Sequence[Column]


@dataclass(frozen=True)
class BadMessage:
    """A stored message that cannot be written as JSON."""

    row: str
    key: Sequence[Any]
    column: Column
    before: bytes
    after: bytes
    dropped: Sequence[str]
    """The paths of the dropped fields, each with its fault."""


def command(service: str, tables: Sequence[Stored], prepare: Prepare | None = None) -> Command[Any]:
    """Return the command `repair` of a service; `prepare` runs first in every transaction that changes rows."""

    async def repair(settings: ProcessSettings, arguments: Sequence[str]) -> int:
        options = argparse.ArgumentParser(
            prog=f"python -m services.{service} repair",
            description="Lists what is stored and cannot be written as JSON, a line each: the row, and the fields to "
            "blame. Lists over REST answer INTERNAL for as long as it is there. The service may run meanwhile.",
        )
        options.add_argument("--drop", action="store_true", help="drop those fields for good; the rest is kept")
        parsed = options.parse_args(arguments)
        remaining = 0
        async with at_terminal(settings.database_url) as db:
            for table in tables:
                remaining += await _repair(db, table, prepare, drop=parsed.drop)
        return _EXIT_BAD_MESSAGES if remaining else 0

    return Command("find stored messages that cannot be shown as JSON, and mend them", repair)


async def _repair(db: Database, table: Stored, prepare: Prepare | None, *, drop: bool) -> int:
    """Repair one table; return how many bad messages remain."""
    remaining = 0
    after: Sequence[Any] | None = None
    while rows := await _page(db, table, after):
        after = rows[-1][: len(table.key)]
        bad_messages = [bad for row in rows for bad in _bad_messages(table, row)]
        repaired_numbers = await _write_repaired(db, table, bad_messages, prepare) if drop and bad_messages else set()
        remaining += len(bad_messages) - len(repaired_numbers)
        for number, bad in enumerate(bad_messages):
            done = "dropped" if number in repaired_numbers else "found"
            sys.stdout.writelines(f"{done} {table.table} {bad.row} {bad.column.name}.{what}\n" for what in bad.dropped)
    return remaining


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


async def _write_repaired(
    db: Database, table: Stored, bad_messages: Sequence[BadMessage], prepare: Prepare | None
) -> set[int]:
    """Write the repaired messages; return the indexes of those written, without rows that changed meanwhile."""
    repaired_numbers = set()
    async with db.transaction() as connection:
        if prepare is not None:
            await prepare(connection)
        for number, bad in enumerate(bad_messages):
            if bad.before == bad.after:
                continue
            statement = sql.SQL(
                "UPDATE {table} SET {column} = %(after)s WHERE ({key}) = ({values}) AND {column} = %(before)s"
            ).format(
                table=sql.Identifier(table.table),
                column=sql.Identifier(bad.column.name),
                key=_names(table.key),
                values=_values(bad.key),
            )
            cursor = await connection.execute(statement, {"after": bad.after, "before": bad.before})
            if cursor.rowcount:
                repaired_numbers.add(number)
    return repaired_numbers


def _names(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _values(values: Sequence[Any]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Literal, values))


def _bad_messages(table: Stored, row: Sequence[Any]) -> Iterator[BadMessage]:
    key, rest = row[: len(table.key)], row[len(table.key) :]
    named, cells = rest[: len(table.named_by)], rest[len(table.named_by) :]
    for column, cell in zip(table.columns, cells, strict=True):
        if cell is not None:
            before = bytes(cell)
            after, dropped = repaired(column, before)
            if dropped:
                yield BadMessage("/".join(map(str, named)), key, column, before, after, dropped)


def repaired(column: Column, payload: bytes) -> tuple[bytes, list[str]]:
    """Return the message without its bad fields, and the paths of those fields with their faults.

    A message without bad fields is returned unchanged, with an empty list.
    """
    check_depth = depth_check(column.message_type, column.levels)
    try:
        message = column.message_type.FromString(payload)
    except DecodeError:
        return payload, [_BROKEN]
    try:
        check_depth(payload)
        JSON_REPLY_RULE.check(message)
    except UnreadableValue:
        dropped = list(_drop(message, MOST_LEVELS - column.levels))
    else:
        return payload, []
    try:
        check_depth(message.SerializeToString())
    except UnreadableValue:
        message.DiscardUnknownFields()
        dropped.append(f"fields of later releases: {TOO_DEEP}")
    return message.SerializeToString(), dropped


def _drop(message: Message, levels: int) -> Iterator[str]:
    """Clear every field in `message` that has a bad value or is nested deeper than `levels`; yield path and fault."""
    for field, value in message.ListFields():
        if map_value(field) is not None:
            members = [(value[key], levels - 2, (value.__delitem__, key)) for key in list(value)]
        elif field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        elif field.is_repeated:
            # From the end, as a deletion changes the indexes after it.
            members = [(value[at], levels - 1, (value.__delitem__, at)) for at in reversed(range(len(value)))]
        else:
            members = [(value, levels - 1, (message.ClearField, field.name))]
        for member, remaining_levels, (clear, target) in members:
            fault = TOO_DEEP if remaining_levels < 0 else _fault(member)
            if fault:
                clear(target)
                yield f"{field.name}: {fault}"
            else:
                yield from (f"{field.name}.{what}" for what in _drop(member, remaining_levels))


def _fault(value: Message) -> str:
    """Return the fault of a value itself, without its message fields; empty when it has none."""
    if value.ListFields() and any(field.message_type is not None for field, _ in value.ListFields()):
        return ""
    try:
        JSON_REPLY_RULE.check(value)
    except UnreadableValue as unreadable:
        return unreadable.fault
    return ""
