"""The check of replies that the gateway writes as JSON: values that JSON cannot express are reported with their entity.

The gateway can only return 502 for a whole list, without the row that is bad. The service names the row and returns
INTERNAL (docs/decisions/0020-readable-values.md). Stored messages can have such values: releases before the check of
requests accepted them.
"""

import asyncio
import logging
import re

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from services.kit.errors import Internal, ResourceExhausted
from services.kit.protobuf.json_parts import count_json_parts
from services.kit.protobuf.readable import JSON_REPLY_RULE, TOO_DEEP, UnreadableValue
from services.kit.protobuf.wire import length_delimited, message_field
from services.kit.rpc.fairness import FairSemaphore, current_client_connection

JSON_REPLY_HEADER = "x-flyteplane-json-reply"
"""Header of the gateway's calls whose reply it writes as JSON (gateway/lua/outer.lua).

Any caller may send it, and then gets a failure instead of a reply that is not readable as JSON.
"""

# The gateway writes a reply as JSON in one go, and serves no other client meanwhile. Bytes of text cost it 10 to 40 ns
# each, parts up to 110 ns: so some 0.4 s at most. The limit of bytes is what flytekit receives by gRPC.
MOST_JSON_REPLY_BYTES = 20 * 1024 * 1024
MOST_JSON_REPLY_PARTS = 4_000_000
# Smaller replies are written in less than 0.05 s, whatever their parts.
_MOST_UNCOUNTED_BYTES = 256 * 1024
# Long texts count, too: as many parts as take as long.
_BYTES_OF_PART = 8

# A longer reply is checked item by item: parsed as a whole, one of many small fields takes a hundred times its size.
_MOST_WHOLE_BYTES = 1024 * 1024

log = logging.getLogger(__name__)


class JsonTurns:
    """Spaces out the large replies of a process that become JSON, so that the gateway serves others between them."""

    # About twice what the gateway takes for a part.
    SECONDS_OF_PART = 200e-9
    # As long as a call waits for a connection to the database.
    MOST_SECONDS = 5.0

    def __init__(self) -> None:
        self._turns = FairSemaphore(1)

    async def wait(self, parts: int) -> None:
        """Wait until a reply of so many parts may be sent.

        Raises:
            ResourceExhausted: it has too many parts, or others take too long.
        """
        # Not raised where the parsed message is: the traceback would keep it.
        if parts > MOST_JSON_REPLY_PARTS:
            raise ResourceExhausted(
                f"the reply has more than the {MOST_JSON_REPLY_PARTS} parts that it may have as JSON: "
                "accept application/octet-stream, or call by gRPC"
            )
        connection = current_client_connection()
        try:
            await self._turns.acquire(connection, self.MOST_SECONDS)
        except TimeoutError as error:
            raise ResourceExhausted(
                "too many large replies are waiting to be written as JSON: accept application/octet-stream, "
                "call by gRPC, or try again"
            ) from error
        try:
            await asyncio.sleep(parts * self.SECONDS_OF_PART)
        finally:
            self._turns.release(connection)


def check_reply_size(reply: bytes) -> None:
    """Raise ResourceExhausted for a reply that is too large to be written as JSON."""
    if len(reply) > MOST_JSON_REPLY_BYTES:
        raise ResourceExhausted(
            f"the reply has {len(reply)} bytes, and as JSON it may have {MOST_JSON_REPLY_BYTES}: "
            "accept application/octet-stream, or call by gRPC"
        )


def check_json_reply(method: str, request: Message, message_type: Descriptor, reply: bytes) -> int:
    """Check that `reply`, a serialized message of the type `message_type`, can be written as JSON.

    Returns:
        the parts of a large reply, for `JsonTurns`, which refuses too many; 0 for others.

    Raises:
        Internal: a value has no form as JSON.
    """
    try:
        return _check_and_count(message_type, reply)
    except UnreadableValue as unreadable:
        message = _describe(method, request, message_type, reply, unreadable)
        log.warning("a reply has no form as JSON", extra={"cause": message})
        raise Internal(message) from unreadable


def _check_and_count(message_type: Descriptor, reply: bytes) -> int:
    counted = len(reply) > _MOST_UNCOUNTED_BYTES
    if len(reply) <= _MOST_WHOLE_BYTES:
        return _check(message_type, reply, counted=counted)
    parts = 0
    for number, content in length_delimited(reply):
        parts += _check(message_type, message_field(number, content), counted=counted)
        if parts > MOST_JSON_REPLY_PARTS:
            break
    return parts


def _check(message_type: Descriptor, payload: bytes, *, counted: bool = False) -> int:
    try:
        message = GetMessageClass(message_type).FromString(payload)
    except DecodeError as error:
        raise UnreadableValue(f"{TOO_DEEP}, or broken") from error
    parts = 0
    if counted:
        parts = len(payload) // _BYTES_OF_PART + count_json_parts(message, MOST_JSON_REPLY_PARTS)
    if parts <= MOST_JSON_REPLY_PARTS:
        JSON_REPLY_RULE.check(message)
    return parts


def _describe(
    method: str, request: Message, message_type: Descriptor, reply: bytes, unreadable: UnreadableValue
) -> str:
    """Name the reply itself if it has an id, else its first item that cannot be written, else the request."""
    if "id" in message_type.fields_by_name:
        return _cannot_be_shown(_named(message_type, reply), unreadable)
    for number, item in length_delimited(reply):
        field = message_type.fields_by_number.get(number)
        if field is None or field.message_type is None or not field.is_repeated:
            continue
        try:
            _check(message_type, message_field(number, item))
        except UnreadableValue as of_item:
            del of_item.fields[-1:]  # of the list
            return _cannot_be_shown(_named(field.message_type, item), of_item)
    return _cannot_be_shown(f"{method} {_id_text(request)}", unreadable)


def _cannot_be_shown(entity: str, unreadable: UnreadableValue) -> str:
    path = f"{unreadable.path}: " if unreadable.fields else ""
    return f"{entity} cannot be shown: {path}{unreadable.fault}"


def _named(message_type: Descriptor, payload: bytes) -> str:
    """Name a message by its type and its id, or its strings if it has none; only those need to be readable."""
    fields = [(message_type.fields_by_number.get(number), content) for number, content in length_delimited(payload)]
    known = [(field, content) for field, content in fields if field is not None]
    if "id" in message_type.fields_by_name:
        parts = [_text(field, content) for field, content in known if field.name == "id"]
    else:
        strings = [(field, content) for field, content in known if field.type == FieldDescriptor.TYPE_STRING]
        parts = [f"{field.name} {_text(field, content)}" for field, content in strings]
    return " ".join([_words(message_type), *parts])


def _text(field: FieldDescriptor, content: bytes) -> str:
    if field.message_type is None:
        return content.decode(errors="replace")
    try:
        return _id_text(GetMessageClass(field.message_type).FromString(content))
    except DecodeError:
        return "with a broken id"


def _id_text(identifier: Message) -> str:
    """Join the parts of an id with slashes, those of nested ids first."""
    parts = [(field, value) for field, value in identifier.ListFields() if field.enum_type is None]
    inner = [_id_text(value) for _, value in parts if isinstance(value, Message)]
    return "/".join(inner + [str(value) for _, value in parts if not isinstance(value, Message)])


def _words(message_type: Descriptor) -> str:
    """Return the name of a type in words: "node execution" for NodeExecution."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", message_type.name).lower()
