"""Messages as Go prints them in errors: `collection_type:{simple:INTEGER}`. Clients search errors for such texts."""

import json
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_quoted = json.JSONEncoder(ensure_ascii=False).encode
_FLOATS = frozenset({FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT})


def message_text(message: Message) -> str:
    """Write `message` on one line, without unset fields."""
    return " ".join(text for field, value in message.ListFields() for text in _field(field, value))


def _field(field: Any, value: Any) -> list[str]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, item = field.message_type.fields
        return [f"{field.name}:{{key:{_value(key, each)} value:{_value(item, value[each])}}}" for each in sorted(value)]
    each_value = value if _is_repeated(field) else (value,)
    return [f"{field.name}:{_value(field, each)}" for each in each_value]


def _is_repeated(field: Any) -> bool:
    return bool(field.label == FieldDescriptor.LABEL_REPEATED)


def _value(field: Any, value: Any) -> str:
    if field.message_type is not None:
        return f"{{{message_text(value)}}}"
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else str(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, bytes):
        return _quoted(value.decode("utf-8", "backslashreplace"))
    if isinstance(value, bool):
        return str(value).lower()
    if field.cpp_type in _FLOATS:
        return repr(value).removesuffix(".0")
    return str(value)
