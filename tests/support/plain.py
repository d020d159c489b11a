"""Messages as plain Python values, for tests that must not depend on how messages are folded.

Absent fields are left out, as in JSON. Enums are their names (or the number, if it has no name), timestamps and
durations are whole nanoseconds, structs are their JSON.
"""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

NANOS = 10**9

Plain = dict[str, Any]


def plain(message: Message) -> Any:
    """Return `message` as a dictionary by the names of its fields; times as numbers."""
    if isinstance(message, Timestamp | Duration):
        return message.seconds * NANOS + message.nanos
    if isinstance(message, Struct):
        return MessageToDict(message)
    return {field.name: _field(field, value) for field, value in message.ListFields()}


def _field(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        kind = field.message_type.fields_by_name["value"]
        return {key: _one(kind, value[key]) for key in value}
    if field.is_repeated:
        return [_one(field, item) for item in value]
    return _one(field, value)


def _one(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return plain(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    return value
