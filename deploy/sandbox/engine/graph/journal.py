"""The journal of an execution: its inputs, from which it is resumed after a restart.

A line is the JSON of one input with its time; messages are in base64. Events are numbered by the state machine, and an
event that was sent is an input as well (`Done`), so nothing is sent again that the control plane has.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields
from datetime import datetime
from functools import cache
from types import NoneType
from typing import Any, Final, get_args, get_origin, get_type_hints

from google.protobuf.message import Message

from deploy.sandbox.engine.graph import inputs
from deploy.sandbox.engine.graph.execution import Execution
from deploy.sandbox.engine.graph.inputs import Input
from deploy.sandbox.engine.graph.interface import Action, Run, TaskKey

_KIND: Final = "input"
_TIME: Final = "at"


def line(received: Input, at: datetime) -> str:
    """Return the line of an input, without a line break."""
    values = {each.name: _written(getattr(received, each.name)) for each in fields(received)}
    members = {name: value for name, value in values.items() if value is not None}
    return json.dumps({_TIME: at.isoformat(), _KIND: type(received).__name__, **members}, separators=(",", ":"))


def read_line(text: str) -> tuple[datetime, Input]:
    """Return the time and the input of a line; raise ValueError for one that was not written to its end."""
    members = json.loads(text)
    kind = getattr(inputs, members.pop(_KIND))
    at = datetime.fromisoformat(members.pop(_TIME))
    hints = _hints(kind)
    received: Input = kind(**{name: _read(hints[name], value) for name, value in members.items()})
    return at, received


def resume(run: Run, entries: Iterable[tuple[datetime, Input]]) -> tuple[Execution, Sequence[Action]]:
    """Return an execution after its journal, and the actions to carry out again.

    Args:
        run: The same as before the restart.
        entries: The journal. Without entries, the execution waits for `Begin`.
    """
    execution = Execution(run)
    for at, received in entries:
        execution.handle(received, at)
    return execution, execution.outstanding()


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _written(value: Any) -> Any:
    if isinstance(value, Message):
        return b64encode(value.SerializeToString()).decode()
    if isinstance(value, TaskKey):
        return astuple(value)
    return [_written(each) for each in value] if isinstance(value, list | tuple) else value


def _read(hint: Any, value: Any) -> Any:
    if NoneType in get_args(hint):
        hint = next(each for each in get_args(hint) if each is not NoneType)
    if get_origin(hint) is Sequence:
        return tuple(_read(get_args(hint)[0], each) for each in value)
    if hint is TaskKey:
        return TaskKey(*value)
    return hint.FromString(b64decode(value)) if isinstance(hint, type) and issubclass(hint, Message) else value
