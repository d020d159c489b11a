"""The two JSON forms of protobuf messages in a resource (engine.md#encodings).

flytepropeller ignores members that it does not know, so a message in the wrong form is lost without an error.
"""

from typing import Any

from flyteidl.core.identifier_pb2 import Identifier
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from services.contracts.message_text import message_text

Json = dict[str, Any]
"""A JSON object."""


def protojson(message: Message) -> Json:
    """Return `message` in the protobuf JSON form: `{"nodeId": "n0"}`, enums by name, 64-bit integers as texts."""
    encoded: Json = MessageToDict(message)
    return encoded


def plain(message: Message) -> Json:
    """Return `message` in the form of Go's generated structs: `{"node_id": "n0"}`, enums and integers as numbers.

    None of the messages in this form has 64-bit integers, which would become texts.
    """
    encoded: Json = MessageToDict(message, preserving_proto_field_name=True, use_integers_for_enums=True)
    return encoded


def identifier_key(identifier: Identifier) -> str:
    """Return the text by which tasks and sub-workflows are keyed, and by which nodes refer to them.

    `resource_type:TASK project:"p" domain:"d" name:"n" version:"v"`; empty fields are left out.
    """
    return message_text(identifier)
