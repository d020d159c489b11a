"""Errors of registering a version that exists.

An identical one is ALREADY_EXISTS, which every client takes for success (clients.md#same-version-again); a different
one is INVALID_ARGUMENT with a diff, which every client shows and fails on (clients.md#other-structure).
"""

import json
from collections.abc import Iterator
from itertools import zip_longest

from flyteidl.admin.workflow_pb2 import (
    CreateWorkflowFailureReason,
    WorkflowErrorExistsDifferentStructure,
    WorkflowErrorExistsIdenticalStructure,
)
from flyteidl.core.identifier_pb2 import Identifier
from google.protobuf.json_format import MessageToDict, SerializeToJsonError
from google.protobuf.message import Message

from services.kit.errors import AlreadyExists, InvalidArgument

# People read these lines: more than a screen or two hides the first difference.
MAX_LINES = 50
_MAX_VALUE_CHARACTERS = 200
# Comparing takes a second for each megabyte; what people write has some kilobytes.
MAX_COMPARED_BYTES = 1024 * 1024

# Not None, which represents null of JSON.
_ABSENT = object()

TASK, WORKFLOW, LAUNCH_PLAN = "task", "workflow", "launch plan"


def identical(noun: str, *details: Message) -> AlreadyExists:
    """Return the error for a version that is registered with the same structure."""
    return AlreadyExists(f"{noun} with identical structure already exists", *details)


def different(noun: str, name: str, stored: Message, sent: Message, *details: Message) -> InvalidArgument:
    """Return the error, with a diff, for a version that is registered with another structure."""
    return InvalidArgument(
        f"{name} {noun} with different structure already exists. "
        f"(Please register a new version of the {noun}):\n{_difference(stored, sent)}",
        *details,
    )


def identical_workflow(workflow: Identifier) -> AlreadyExists:
    """Return `identical` for a workflow, with the detail that only workflows have."""
    reason = WorkflowErrorExistsIdenticalStructure(id=workflow)
    return identical(WORKFLOW, CreateWorkflowFailureReason(exists_identical_structure=reason))


def different_workflow(workflow: Identifier, stored: Message, sent: Message) -> InvalidArgument:
    """Return `different` for a workflow, with the detail that only workflows have."""
    reason = WorkflowErrorExistsDifferentStructure(id=workflow)
    detail = CreateWorkflowFailureReason(exists_different_structure=reason)
    return different(WORKFLOW, workflow.name, stored, sent, detail)


def _difference(stored: Message, sent: Message) -> str:
    if max(stored.ByteSize(), sent.ByteSize()) > MAX_COMPARED_BYTES:
        return f"{stored.ByteSize()} bytes are registered, {sent.ByteSize()} were sent; too many to tell the difference"
    lines = list(_differences("", *_comparable(stored, sent)))
    shown = lines[:MAX_LINES]
    if len(lines) > MAX_LINES:
        shown.append(f"... and {len(lines) - MAX_LINES} more")
    return "\n".join(shown)


def _comparable(stored: Message, sent: Message) -> tuple[object, object]:
    """Return both as JSON, or as lines of text when one has no JSON form, for example because of NaN."""
    try:
        return MessageToDict(stored), MessageToDict(sent)
    except SerializeToJsonError:
        return str(stored).splitlines(), str(sent).splitlines()


def _differences(path: str, old: object, new: object) -> Iterator[str]:
    """Yield `<json pointer>:` with the old and the new value below it, for each difference."""
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(f"{path}/{key}", old.get(key, _ABSENT), new.get(key, _ABSENT))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _list_differences(path, old, new)
    else:
        yield f"{path or '/'}:\n\t- {_shown(old)} \n\t+ {_shown(new)}"


def _list_differences(path: str, old: list[object], new: list[object]) -> Iterator[str]:
    """Yield the differences of two lists, without a common end: an inserted or removed item shifts the rest."""
    ends = 0 if len(old) == len(new) else _common_end(old, new)
    before, after = old[: len(old) - ends], new[: len(new) - ends]
    for index, (one, other) in enumerate(zip_longest(before, after, fillvalue=_ABSENT)):
        yield from _differences(f"{path}/{index}", one, other)


def _common_end(old: list[object], new: list[object]) -> int:
    pairs = zip(reversed(old), reversed(new), strict=False)
    return next((count for count, (one, other) in enumerate(pairs) if one != other), min(len(old), len(new)))


def _shown(value: object) -> str:
    text = "nothing" if value is _ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_VALUE_CHARACTERS else f"{text[:_MAX_VALUE_CHARACTERS]}..."
