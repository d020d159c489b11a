"""Checks for values that protobuf can encode but JSON, Python or Go cannot read (common.md#readable-values).

A stored value of this kind would break every list that contains it, for all clients: REST replies are JSON, and a
message that is nested too deeply cannot be parsed. So `rpc` checks every request, and every reply that becomes JSON
(docs/decisions/0020-readable-values.md).

The content of google.protobuf.Any is not checked: no stored message has one.
"""

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from services.kit.protobuf.wire import message_head

# Seconds of 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, the range of a protobuf timestamp, also in JSON.
FIRST_SECOND = -62_135_596_800
LAST_SECOND = 253_402_300_799
NANOS_PER_SECOND = 1_000_000_000
# Ten thousand years, protobuf's limit.
LONGEST_SECONDS = 315_576_000_000

# Nesting that parsers in Python and C++, and so Envoy's, accept.
MOST_LEVELS = 100
# How many levels deeper a stored message may be in a reply than in the request that it came with. Three are needed (the
# template of a workflow in a list of workflows); the rest is reserved for future replies.
REPLY_LEVELS = 10
TOO_DEEP = "nested too deeply"

# Up to this size a second parse takes less time than reaching the message in the nested one.
_PARSED_TWICE_BYTES = 4096

# Lengths of requests whose prefix is cached.
_MOST_PREFIXES = 4096

Check = Callable[[Message], None]


class UnreadableValue(Exception):
    """A value that some clients cannot read."""

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault
        self.fields: list[str] = []
        """The path of fields to the value, innermost first; within a google.protobuf.Struct only the Struct's field."""

    @property
    def path(self) -> str:
        """The fields that lead to the value, joined by dots, outermost first."""
        return ".".join(reversed(self.fields))


class Rule:
    """A set of checks by message type, each compiled once from the fields that may have a refused value.

    Args:
        refuse_unset_values: also refuse a google.protobuf.Value without a kind. Go's JSON encoder fails for one,
            Envoy's omits it.
    """

    def __init__(self, *, refuse_unset_values: bool) -> None:
        self._refuse_unset_values = refuse_unset_values
        self._checks: dict[str, Check] = {
            Timestamp.DESCRIPTOR.full_name: _check_timestamp,  # type: ignore[dict-item]  # takes this type only
            Duration.DESCRIPTOR.full_name: _check_duration,  # type: ignore[dict-item]  # takes this type only
            Struct.DESCRIPTOR.full_name: self._check_struct,  # type: ignore[dict-item]  # takes this type only
            ListValue.DESCRIPTOR.full_name: self._check_list,  # type: ignore[dict-item]  # takes this type only
            Value.DESCRIPTOR.full_name: self._check_value,  # type: ignore[dict-item]  # takes this type only
        }

    def checker(self, message_type: Descriptor) -> Check | None:
        """Return the check of messages of this type, which raises UnreadableValue; None if no value can be refused."""
        return self._compiled(message_type) if _may_refuse(message_type) else None

    def check(self, message: Message) -> None:
        """Raise UnreadableValue for a refused value in `message`, at any depth."""
        check = self.checker(descriptor_of(message))
        if check is not None:
            check(message)

    def _compiled(self, message_type: Descriptor) -> Check:
        known = self._checks.get(message_type.full_name)
        if known is not None:
            return known
        fields = _Fields()
        # Registered before its fields are compiled: the type may be recursive.
        self._checks[message_type.full_name] = fields.check
        for field in message_type.fields:
            if field.message_type is not None and _may_refuse(field.message_type):
                if (value := map_value(field)) is not None:
                    fields.maps.append((field.name, self._compiled(value)))
                elif field.is_repeated:
                    fields.repeated.append((field.name, self._compiled(field.message_type)))
                elif field.message_type.full_name == Timestamp.DESCRIPTOR.full_name:
                    fields.times.append(field.name)
                else:
                    fields.singular.append((field.name, self._compiled(field.message_type)))
        return fields.check

    def _check_struct(self, struct: Struct) -> None:
        fields = struct.fields
        for name in fields:
            self._check_value(fields[name])

    def _check_list(self, values: ListValue) -> None:
        for value in values.values:
            self._check_value(value)

    def _check_value(self, value: Value) -> None:
        kind = value.WhichOneof("kind")
        if kind == "number_value":
            if not math.isfinite(value.number_value):
                raise UnreadableValue("a number that is not finite")
        elif kind == "struct_value":
            self._check_struct(value.struct_value)
        elif kind == "list_value":
            self._check_list(value.list_value)
        elif kind is None and self._refuse_unset_values:
            raise UnreadableValue("a value of no kind")


class _Fields:
    """The check of one message type: the names of its fields that may have a refused value, and their checks."""

    __slots__ = ("maps", "repeated", "singular", "times")

    def __init__(self) -> None:
        self.times: list[str] = []
        self.singular: list[tuple[str, Check]] = []
        self.repeated: list[tuple[str, Check]] = []
        self.maps: list[tuple[str, Check]] = []

    def check(self, message: Message) -> None:
        name = ""
        try:
            # Every event has timestamps: HasField and a call for each would take twice as long.
            for name in self.times:
                timestamp = getattr(message, name)
                if not (FIRST_SECOND <= timestamp.seconds <= LAST_SECOND and 0 <= timestamp.nanos < NANOS_PER_SECOND):
                    _check_timestamp(timestamp)
            for name, check in self.singular:
                if message.HasField(name):
                    check(getattr(message, name))
            # Testing for items costs a tenth of iterating over none.
            for name, check in self.repeated:
                if items := getattr(message, name):
                    for item in items:
                        check(item)
            for name, check in self.maps:
                if members := getattr(message, name):
                    for key in members:
                        check(members[key])
        except UnreadableValue as unreadable:
            unreadable.fields.append(name)
            raise


def _check_timestamp(value: Timestamp) -> None:
    if FIRST_SECOND <= value.seconds <= LAST_SECOND and 0 <= value.nanos < NANOS_PER_SECOND:
        return
    # The messages of flyteadmin, which come from protobuf for Go.
    text = f"timestamp (seconds:{value.seconds} nanos:{value.nanos})"
    if value.seconds < FIRST_SECOND:
        raise UnreadableValue(f"{text} before 0001-01-01")
    if value.seconds > LAST_SECOND:
        raise UnreadableValue(f"{text} after 9999-12-31")
    raise UnreadableValue(f"{text} has out-of-range nanos")


def _check_duration(value: Duration) -> None:
    if abs(value.seconds) > LONGEST_SECONDS or abs(value.nanos) >= NANOS_PER_SECOND:
        raise UnreadableValue("a duration of more than ten thousand years")
    if value.seconds * value.nanos < 0:
        raise UnreadableValue("a duration whose parts have different signs")


REQUEST_RULE = Rule(refuse_unset_values=True)
"""The rule for requests."""

JSON_REPLY_RULE = Rule(refuse_unset_values=False)
"""The rule for replies that Envoy writes as JSON."""


def map_value(field: FieldDescriptor) -> Descriptor | None:
    """Return the message type of a map's values; None for other fields."""
    entry = field.message_type
    if entry is None or not entry.GetOptions().map_entry:
        return None
    return entry.fields_by_name["value"].message_type


def descriptor_of(message: Message | type[Message]) -> Descriptor:
    """Return the type of a message."""
    message_type: Descriptor = message.DESCRIPTOR  # type: ignore[assignment]  # upb's class is another one with the same methods
    return message_type


_CHECKED_TYPES = frozenset(
    message_type.DESCRIPTOR.full_name for message_type in (Timestamp, Duration, Struct, ListValue, Value)
)


@cache  # as many as there are types
def _may_refuse(message_type: Descriptor) -> bool:
    """Return whether a message of this type can have a refused value, at any depth."""
    visited: set[str] = set()
    pending = [message_type]
    while pending:
        current = pending.pop()
        if current.full_name in _CHECKED_TYPES:
            return True
        if current.full_name not in visited:
            visited.add(current.full_name)
            pending += [field.message_type for field in current.fields if field.message_type is not None]
    return False


def nested_parser(message_type: type[Message], levels: int = REPLY_LEVELS) -> Callable[[bytes], Message]:
    """Return a parser that raises UnreadableValue unless a message can also be parsed when nested `levels` deeper.

    The parser itself decides, so everything counts that counts for parsers, such as groups of unknown fields. It raises
    DecodeError for what is no such message, or too deep by itself.
    """
    nesting_type = _nesting_type(message_type.DESCRIPTOR.full_name, message_type.DESCRIPTOR.file)
    shortest = 2 * (MOST_LEVELS - levels)  # every level takes two bytes at least

    def parse(payload: bytes) -> Message:
        if len(payload) <= shortest:
            return message_type.FromString(payload)
        small = message_type.FromString(payload) if len(payload) <= _PARSED_TWICE_BYTES else None
        try:
            message: Any = nesting_type.FromString(_prefix(len(payload), levels) + payload)
        except DecodeError as error:
            message_type.FromString(payload)
            raise UnreadableValue(TOO_DEEP) from error
        if small is not None:
            return small
        for _ in range(levels - 1):
            message = message.field_1
        return message.field_2  # type: ignore[no-any-return]  # of the generated type

    return parse


def depth_check(message_type: type[Message], levels: int = REPLY_LEVELS) -> Callable[[bytes], None]:
    """Return a check that raises UnreadableValue as `nested_parser` does, also for what is no such message."""
    parse = nested_parser(message_type, levels)

    def check(payload: bytes) -> None:
        try:
            parse(payload)
        except DecodeError as error:
            raise UnreadableValue(TOO_DEEP) from error

    return check


_NESTED, _WRAPPED = 1, 2  # fields of the types that `_nesting_type` returns


@cache  # as many as there are types
def _nesting_type(full_name: str, defined_in: FileDescriptor) -> type[Message]:
    """Return a message type with two fields: one of itself, and one of the type `full_name`."""
    name = full_name.replace(".", "_")
    file = FileDescriptorProto(name=f"deeper/{name}.proto", package="deeper", syntax="proto3")
    file.dependency.append(defined_in.name)
    wrapper = file.message_type.add(name=name)
    for number, type_name in ((_NESTED, f".deeper.{name}"), (_WRAPPED, f".{full_name}")):
        wrapper.field.add(
            name=f"field_{number}",
            number=number,
            label=FieldDescriptorProto.LABEL_OPTIONAL,
            type=FieldDescriptorProto.TYPE_MESSAGE,
            type_name=type_name,
        )
    pool = defined_in.pool
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"deeper.{name}"))


@lru_cache(_MOST_PREFIXES)
def _prefix(length: int, levels: int) -> bytes:
    """Return the bytes that, before a message of `length` bytes, nest it `levels` deep in `_nesting_type`."""
    head = message_head(_WRAPPED, length)
    for _ in range(levels - 1):
        head = message_head(_NESTED, len(head) + length) + head
    return head
