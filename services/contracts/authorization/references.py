"""The project-domains that a request names anywhere but in its own fields: of entities that it refers to.

A launch refers to a launch plan, perhaps to a parent; a workflow to tasks, launch plans and sub-workflows; an event to
the execution that a node has launched. Which fields of a message type lead to such a name follows from its descriptor.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from services.kit.protobuf.readable import descriptor_of, map_value

ProjectDomain = tuple[str, str]
"""A project and one of its domains."""

_Add = Callable[[ProjectDomain], None]


def references(request: Message) -> set[ProjectDomain]:
    """Return the project-domains that messages inside of `request` name. One without a project names none."""
    found: set[ProjectDomain] = set()
    _visitor(descriptor_of(request)).visit_fields(request, found.add)
    return found


class _Visitor:
    """Visits messages of one type: the names of its fields that lead to a project-domain, and their visitors."""

    __slots__ = ("maps", "names", "repeated", "singular")

    def __init__(self, *, names: bool) -> None:
        self.names = names
        self.singular: list[tuple[str, _Visitor]] = []
        self.repeated: list[tuple[str, _Visitor]] = []
        self.maps: list[tuple[str, _Visitor]] = []

    def visit(self, message: Any, add: _Add) -> None:
        if self.names and message.project:
            add((message.project, message.domain))
        self.visit_fields(message, add)

    def visit_fields(self, message: Any, add: _Add) -> None:
        for name, visitor in self.singular:
            if message.HasField(name):
                visitor.visit(getattr(message, name), add)
        for name, visitor in self.repeated:
            for item in getattr(message, name):
                visitor.visit(item, add)
        for name, visitor in self.maps:
            members = getattr(message, name)
            for key in members:
                visitor.visit(members[key], add)


@cache  # as many as there are requests
def _visitor(message_type: Descriptor) -> _Visitor:
    """Return the visitor of a request's type, complete: requests are also visited in threads."""
    return _compiled(message_type, {})


def _compiled(message_type: Descriptor, visitors: dict[str, _Visitor]) -> _Visitor:
    known = visitors.get(message_type.full_name)
    if known is not None:
        return known
    # Registered before its fields are compiled: the type may be recursive.
    visitor = visitors[message_type.full_name] = _Visitor(names=_names(message_type))
    for field in message_type.fields:
        if field.message_type is None or not _leads_to_names(field.message_type):
            continue
        if (value := map_value(field)) is not None:
            visitor.maps.append((field.name, _compiled(value, visitors)))
        elif field.is_repeated:
            visitor.repeated.append((field.name, _compiled(field.message_type, visitors)))
        else:
            visitor.singular.append((field.name, _compiled(field.message_type, visitors)))
    return visitor


def _names(message_type: Descriptor) -> bool:
    """Return whether messages of this type name a project-domain."""
    return all(
        (field := message_type.fields_by_name.get(name)) is not None
        and field.type == FieldDescriptor.TYPE_STRING
        and not field.is_repeated
        for name in ("project", "domain")
    )


@cache  # as many as there are types
def _leads_to_names(message_type: Descriptor) -> bool:
    visited: set[str] = set()
    pending = [message_type]
    while pending:
        current = pending.pop()
        if _names(current):
            return True
        if current.full_name not in visited:
            visited.add(current.full_name)
            pending += [field.message_type for field in current.fields if field.message_type is not None]
    return False
