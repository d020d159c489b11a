"""Replies that the gateway turns into JSON: what has no form there is told of, by the name of what holds it.

The gateway could only answer 502 for the whole of a list, and would not know which of its rows is bad. The service
knows, and answers INTERNAL (docs/decisions/0020-readable-values.md). What is stored can be such: releases before the
check of requests took it.
"""

import logging
import re

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from services.kit.errors import Internal, ResourceExhausted
from services.kit.protobuf.readable import SHOWN, TOO_DEEP, Unreadable
from services.kit.protobuf.wire import length_delimited, message_field

JSON_REPLY_HEADER = "x-flyteplane-json-reply"
"""Header by which the gateway says that a reply will be written as JSON (gateway/lua/outer.lua).

Any caller may send it, and gets a failure in place of what it could not have read.
"""

# The gateway writes a reply as JSON in one go, 0.1 s for a MiB of small fields, and serves no other client meanwhile.
# As much as flytekit receives by gRPC; of a usual list it takes far less time.
MOST_JSON_REPLY_BYTES = 20 * 1024 * 1024

log = logging.getLogger(__name__)


def check_reply_size(reply: bytes) -> None:
    """Raise ResourceExhausted for a reply that is too large to be written as JSON."""
    if len(reply) > MOST_JSON_REPLY_BYTES:
        raise ResourceExhausted(
            f"the reply has {len(reply)} bytes, and as JSON it may have {MOST_JSON_REPLY_BYTES}: "
            "accept application/octet-stream, or call by gRPC"
        )


def check_shown(method: str, request: Message, kind: Descriptor, reply: bytes) -> None:
    """Raise Internal unless `reply`, a serialized message of this `kind`, can be written as JSON."""
    try:
        _check(kind, reply)
    except Unreadable as unreadable:
        said = _said(method, request, kind, reply, unreadable)
        log.warning("a reply has no form as JSON", extra={"cause": said})
        raise Internal(said) from unreadable


def _check(kind: Descriptor, payload: bytes) -> None:
    try:
        message = GetMessageClass(kind).FromString(payload)
    except DecodeError as error:
        raise Unreadable(f"{TOO_DEEP}, or broken") from error
    SHOWN.check(message)


def _said(method: str, request: Message, kind: Descriptor, reply: bytes, unreadable: Unreadable) -> str:
    """Tell of the reply itself if it has an id, else of its first item that cannot be written, else of the request."""
    if "id" in kind.fields_by_name:
        return _cannot_be_shown(_named(kind, reply), unreadable)
    for number, item in length_delimited(reply):
        field = kind.fields_by_number.get(number)
        if field is None or field.message_type is None or not field.is_repeated:
            continue
        try:
            _check(kind, message_field(number, item))
        except Unreadable as of_item:
            del of_item.fields[-1:]  # of the list
            return _cannot_be_shown(_named(field.message_type, item), of_item)
    return _cannot_be_shown(f"{method} {_id_text(request)}", unreadable)


def _cannot_be_shown(whose: str, unreadable: Unreadable) -> str:
    path = f"{unreadable.path}: " if unreadable.fields else ""
    return f"{whose} cannot be shown: {path}{unreadable.fault}"


def _named(kind: Descriptor, payload: bytes) -> str:
    """Name a message by its type and its id, or its texts for lack of one; only those need be readable."""
    fields = [(kind.fields_by_number.get(number), content) for number, content in length_delimited(payload)]
    known = [(field, content) for field, content in fields if field is not None]
    if "id" in kind.fields_by_name:
        parts = [_text(field, content) for field, content in known if field.name == "id"]
    else:
        texts = [each for each in known if each[0].type == FieldDescriptor.TYPE_STRING]
        parts = [f"{field.name} {_text(field, content)}" for field, content in texts]
    return " ".join([_words(kind), *parts])


def _text(field: FieldDescriptor, content: bytes) -> str:
    if field.message_type is None:
        return content.decode(errors="replace")
    try:
        return _id_text(GetMessageClass(field.message_type).FromString(content))
    except DecodeError:
        return "with a broken id"


def _id_text(identifier: Message) -> str:
    """Write the parts of an id with slashes between, those of ids within it first."""
    parts = [(field, value) for field, value in identifier.ListFields() if field.enum_type is None]
    inner = [_id_text(value) for _, value in parts if isinstance(value, Message)]
    return "/".join(inner + [str(value) for _, value in parts if not isinstance(value, Message)])


def _words(kind: Descriptor) -> str:
    """Write the name of a type in words: NodeExecution is a node execution."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", kind.name).lower()
