"""Values that protobuf carries and JSON cannot: whoever stored one could not read it back over REST.

The reference digests and shows everything as JSON (registry.md section 13), and the gateway answers REST calls with it.
A list would fail whole because of one row.
"""

import math
from collections.abc import Iterable
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from services.contracts.literals import FIRST_SECOND, LAST_SECOND, NANOS_PER_SECOND
from services.kit.errors import InvalidArgument

# Ten thousand years, the bound that protobuf sets.
_LONGEST_SECONDS = 315_576_000_000


def check_json_form(message: Message) -> None:
    """Raise InvalidArgument for a value within `message` that JSON has no form for, naming its field."""
    waiting: list[tuple[str, Any]] = [("", message)]
    while waiting:
        name, value = waiting.pop()
        fault = _fault(value)
        if fault:
            raise InvalidArgument(f"invalid value for {name}: {fault}")
        waiting += _within(value)


def _within(message: Message) -> Iterable[tuple[str, Message]]:
    for field, value in message.ListFields():
        if field.message_type is None or not _may_hold(field.message_type):
            continue
        if field.message_type.GetOptions().map_entry:
            yield from ((field.name, each) for each in value.values())
        elif isinstance(value, Message):
            yield field.name, value
        else:
            yield from ((field.name, each) for each in value)


def _fault(value: Message) -> str:
    if isinstance(value, Duration):
        if abs(value.seconds) > _LONGEST_SECONDS or abs(value.nanos) >= NANOS_PER_SECOND:
            return "a duration of more than ten thousand years"
        if value.seconds * value.nanos < 0:
            return "a duration whose parts have different signs"
    elif isinstance(value, Timestamp):
        if not FIRST_SECOND <= value.seconds <= LAST_SECOND or not 0 <= value.nanos < NANOS_PER_SECOND:
            return "a time outside the years 1 to 9999"
    elif isinstance(value, Value) and value.HasField("number_value") and not math.isfinite(value.number_value):
        return "a number that is not finite"
    return ""


@cache  # as many as there are types
def _may_hold(kind: Descriptor) -> bool:
    """Whether a message of this type may have such a value somewhere within."""
    looked_at: set[str] = set()
    waiting = [kind]
    while waiting:
        one = waiting.pop()
        if one.full_name in {Duration.DESCRIPTOR.full_name, Timestamp.DESCRIPTOR.full_name, Value.DESCRIPTOR.full_name}:
            return True
        if one.full_name not in looked_at:
            looked_at.add(one.full_name)
            waiting += [field.message_type for field in one.fields if field.message_type is not None]
    return False
