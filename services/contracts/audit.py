"""What the audit log records, and how it names what a call is about (docs/operating/audit.md#what-is-recorded)."""

from typing import Any

from google.protobuf.message import Message

from services.contracts.authorization.methods import ACCESS
from services.contracts.authorization.roles import Role

CHANGES = frozenset(path for path, access in ACCESS.items() if access.changes and access.role is not Role.ENGINE)
"""Paths of the methods that change something, except events: the event log has those."""

# The fields of identifiers, in the order in which their text has them.
_NAMES = ("project", "domain", "name", "workflow", "version", "node_id", "signal_id")
_INNER = ("node_execution_id", "execution_id", "task_id")
# Messages of requests that name what they are about, the most specific first.
_IDENTIFIERS = (
    "id",
    "attributes",
    "task_execution_id",
    "node_execution_id",
    "workflow_execution_id",
    "parent_node_execution_id",
    "execution_id",
)
_URLS = ("native_url", "flyte_url")


def resource_of(_path: str, request: Message, reply: Message | bytes | None) -> str:
    """Return the name of what a call is about: `project/domain/name/version` or as much of it as there is.

    A launch is about the execution that it made, an upload about its URI; failed ones about what they asked for.
    """
    for message in (reply, request):
        if isinstance(message, Message) and (text := _text(message)):
            return text
    return ""


def _text(message: Any) -> str:
    fields = message.DESCRIPTOR.fields_by_name
    for url in _URLS:
        if url in fields and (text := getattr(message, url)):
            return str(text)
    if "event" in fields:
        return _text(message.event)
    for name in _IDENTIFIERS:
        if name in fields and fields[name].message_type is None:  # the id of a project
            return str(getattr(message, name))
        if name in fields and message.HasField(name):
            return "/".join(_parts(getattr(message, name)))
    if "project" in fields and fields["project"].message_type is not None:  # of RegisterProject
        return str(message.project.id)
    return "/".join(_parts(message))


def _parts(identifier: Any) -> list[str]:
    fields = identifier.DESCRIPTOR.fields_by_name
    parts = []
    for name in _INNER:
        if name in fields and identifier.HasField(name):
            parts += _parts(getattr(identifier, name))
    return parts + [str(part) for name in _NAMES if name in fields and (part := getattr(identifier, name))]
