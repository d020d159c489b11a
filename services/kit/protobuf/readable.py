"""What every client can read: the one rule about values that protobuf carries and JSON, Python or Go cannot.

Whoever stored such a value would spoil each list that shows it, for everybody: REST answers are JSON, and a message
that is nested too deeply cannot even be parsed. So `rpc` checks every request, and every reply that becomes JSON
(docs/decisions/0020-readable-values.md).

google.protobuf.Any is not looked into: no message that is stored holds one.
"""

import math
from collections.abc import Callable
from functools import cache, lru_cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from services.kit.protobuf.wire import message_head

# Seconds of 0001-01-01T00:00:00Z and of 9999-12-31T23:59:59Z: what a protobuf timestamp, and JSON, can express.
FIRST_SECOND = -62_135_596_800
LAST_SECOND = 253_402_300_799
NANOS_PER_SECOND = 1_000_000_000
# Ten thousand years, the bound that protobuf sets.
LONGEST_SECONDS = 315_576_000_000

# Of messages within messages: what parsers in Python and C++, Envoy's too, follow.
MOST_LEVELS = 100
# How much deeper a stored message may stand in an answer than in the request that brought it. It is three levels at
# most (a workflow's template, which a list of workflows would hold); the rest is room for answers to come.
LEVELS_OF_ANSWERS = 10
TOO_DEEP = "nested too deeply"

# Lengths of requests whose prefix is remembered.
_PREFIXES_KEPT = 4096

Check = Callable[[Message], None]


class Unreadable(Exception):
    """A value that not every client can read."""

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault
        self.fields: list[str] = []
        """The fields that lead to it, innermost first; of a google.protobuf.Struct only its own field."""

    @property
    def path(self) -> str:
        """The fields that lead to the value, with dots between."""
        return ".".join(reversed(self.fields))


class Rule:
    """Which values are refused: checks by type, each compiled once from the fields that may hold such a value.

    With `kinds` a google.protobuf.Value must have one. Without one Go's encoder of JSON fails, while Envoy's leaves the
    value out.
    """

    def __init__(self, *, kinds: bool) -> None:
        self._kinds = kinds
        self._checks: dict[str, Check] = {
            Timestamp.DESCRIPTOR.full_name: _check_timestamp,  # type: ignore[dict-item]  # takes this type only
            Duration.DESCRIPTOR.full_name: _check_duration,  # type: ignore[dict-item]  # takes this type only
            Struct.DESCRIPTOR.full_name: self._check_struct,  # type: ignore[dict-item]  # takes this type only
            ListValue.DESCRIPTOR.full_name: self._check_list,  # type: ignore[dict-item]  # takes this type only
            Value.DESCRIPTOR.full_name: self._check_value,  # type: ignore[dict-item]  # takes this type only
        }

    def checker(self, kind: Descriptor) -> Check | None:
        """Return the check of messages of this type, which raises Unreadable; None when they can hold nothing bad."""
        return self._compiled(kind) if _may_hold(kind) else None

    def check(self, message: Message) -> None:
        """Raise Unreadable for a bad value within `message`, at any depth."""
        check = self.checker(kind_of(message))
        if check is not None:
            check(message)

    def _compiled(self, kind: Descriptor) -> Check:
        known = self._checks.get(kind.full_name)
        if known is not None:
            return known
        fields = _Fields()
        # Known before its fields are looked at: they may hold the type itself.
        self._checks[kind.full_name] = fields.check
        for field in kind.fields:
            if field.message_type is not None and _may_hold(field.message_type):
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
                raise Unreadable("a number that is not finite")
        elif kind == "struct_value":
            self._check_struct(value.struct_value)
        elif kind == "list_value":
            self._check_list(value.list_value)
        elif kind is None and self._kinds:
            raise Unreadable("a value of no kind")


class _Fields:
    """The check of a message: of its fields that may hold a bad value, those that are set."""

    __slots__ = ("maps", "repeated", "singular", "times")

    def __init__(self) -> None:
        self.times: list[str] = []
        self.singular: list[tuple[str, Check]] = []
        self.repeated: list[tuple[str, Check]] = []
        self.maps: list[tuple[str, Check]] = []

    def check(self, message: Message) -> None:
        name = ""
        try:
            # Every event has some: looking whether they are set, and a call for each, would take twice as long.
            for name in self.times:
                moment = getattr(message, name)
                if not (FIRST_SECOND <= moment.seconds <= LAST_SECOND and 0 <= moment.nanos < NANOS_PER_SECOND):
                    _check_timestamp(moment)
            for name, check in self.singular:
                if message.HasField(name):
                    check(getattr(message, name))
            # Looking whether there are any costs a tenth of going through none.
            for name, check in self.repeated:
                if items := getattr(message, name):
                    for item in items:
                        check(item)
            for name, check in self.maps:
                if members := getattr(message, name):
                    for key in members:
                        check(members[key])
        except Unreadable as unreadable:
            unreadable.fields.append(name)
            raise


def _check_timestamp(value: Timestamp) -> None:
    if FIRST_SECOND <= value.seconds <= LAST_SECOND and 0 <= value.nanos < NANOS_PER_SECOND:
        return
    # In the words of the reference, which are those of protobuf for Go.
    text = f"timestamp (seconds:{value.seconds} nanos:{value.nanos})"
    if value.seconds < FIRST_SECOND:
        raise Unreadable(f"{text} before 0001-01-01")
    if value.seconds > LAST_SECOND:
        raise Unreadable(f"{text} after 9999-12-31")
    raise Unreadable(f"{text} has out-of-range nanos")


def _check_duration(value: Duration) -> None:
    if abs(value.seconds) > LONGEST_SECONDS or abs(value.nanos) >= NANOS_PER_SECOND:
        raise Unreadable("a duration of more than ten thousand years")
    if value.seconds * value.nanos < 0:
        raise Unreadable("a duration whose parts have different signs")


WRITTEN = Rule(kinds=True)
"""What requests may hold."""

SHOWN = Rule(kinds=False)
"""What Envoy can write as JSON."""


def map_value(field: FieldDescriptor) -> Descriptor | None:
    """Return the type of the messages in a map, and None for every other field."""
    entry = field.message_type
    if entry is None or not entry.GetOptions().map_entry:
        return None
    return entry.fields_by_name["value"].message_type


def kind_of(message: Message | type[Message]) -> Descriptor:
    """Return the type of a message."""
    kind: Descriptor = message.DESCRIPTOR  # type: ignore[assignment]  # upb's has another class and the same methods
    return kind


_BEARERS = frozenset(kind.DESCRIPTOR.full_name for kind in (Timestamp, Duration, Struct, ListValue, Value))


@cache  # as many as there are types
def _may_hold(kind: Descriptor) -> bool:
    """Whether a message of this type may have such a value somewhere within."""
    looked_at: set[str] = set()
    waiting = [kind]
    while waiting:
        one = waiting.pop()
        if one.full_name in _BEARERS:
            return True
        if one.full_name not in looked_at:
            looked_at.add(one.full_name)
            waiting += [field.message_type for field in one.fields if field.message_type is not None]
    return False


def depth_check(kind: type[Message], levels: int = LEVELS_OF_ANSWERS) -> Callable[[bytes], None]:
    """Return a check that raises Unreadable unless a serialized message can still be parsed `levels` deeper.

    A parser decides: so what counts for parsers counts here, groups of unknown fields too.
    """
    deeper = _deeper(kind.DESCRIPTOR.full_name, kind.DESCRIPTOR.file)
    shortest = 2 * (MOST_LEVELS - levels)  # every level takes two bytes at least

    def check(payload: bytes) -> None:
        if len(payload) > shortest:
            try:
                deeper().ParseFromString(_prefix(len(payload), levels) + payload)
            except DecodeError as error:
                raise Unreadable(TOO_DEEP) from error

    return check


_WRAPPER, _WRAPPED = 1, 2  # fields of the types that `_deeper` makes


@cache  # as many as there are types
def _deeper(full_name: str, defined_in: FileDescriptor) -> type[Message]:
    """Return a type that holds one message of the type of this name, or one of itself."""
    name = full_name.replace(".", "_")
    file = FileDescriptorProto(name=f"deeper/{name}.proto", package="deeper", syntax="proto3")
    file.dependency.append(defined_in.name)
    wrapper = file.message_type.add(name=name)
    for number, held in ((_WRAPPER, f".deeper.{name}"), (_WRAPPED, f".{full_name}")):
        wrapper.field.add(
            name=f"field_{number}",
            number=number,
            label=FieldDescriptorProto.LABEL_OPTIONAL,
            type=FieldDescriptorProto.TYPE_MESSAGE,
            type_name=held,
        )
    pool = defined_in.pool
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"deeper.{name}"))


@lru_cache(_PREFIXES_KEPT)
def _prefix(length: int, levels: int) -> bytes:
    """Return what makes of a message of `length` bytes one of `_deeper` that holds it at this depth."""
    head = message_head(_WRAPPED, length)
    for _ in range(levels - 1):
        head = message_head(_WRAPPER, len(head) + length) + head
    return head
