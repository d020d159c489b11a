"""Ids and checks of the model of events.

Rules: events.md#workflow-event-checks, events.md#node-event-checks, events.md#task-event-checks.
"""

from typing import Any

from tests.support.plain import Plain

# The order of an execution's phases; it never goes back.
_PROGRESS = {"UNDEFINED": 0, "QUEUED": 1, "RUNNING": 2, "SUCCEEDING": 3, "FAILING": 3}
UNNAMED = {"", "propeller"}
_YEAR_1, _YEAR_10000 = -62_135_596_800 * 10**9, 253_402_300_800 * 10**9

Verdict = tuple[str, Plain]
"""The name of the code, and the EventFailureReason in its details (empty without)."""

OK: Verdict = ("OK", {})


class Refused(Exception):  # like the classes of services.kit.errors
    """An event is refused with `verdict`."""

    def __init__(self, code: str, reason: Plain | None = None) -> None:
        super().__init__(code)
        self.verdict: Verdict = (code, reason or {})


def path(identifier: Plain) -> str:
    """Return the path of an execution or a node, which is also that of its data (events.md#workflow-event-effects)."""
    execution = identifier.get("execution_id", identifier)
    parts = [execution.get(part, "") for part in ("project", "domain", "name")]
    return "/".join([*parts, identifier["node_id"]] if "node_id" in identifier else parts)


def task_path(parent: Plain, attempt: Plain) -> str:
    task = [attempt["task_id"][part] for part in ("project", "domain", "name", "version")]
    return "/".join([path(parent), *task, str(attempt.get("retry_attempt", 0))])


def known(entities: dict[str, Plain], key: str) -> str:
    if key not in entities:
        raise Refused("NOT_FOUND")
    return key


def present(message: Plain, name: str) -> Plain:
    if name not in message:
        raise Refused("INVALID_ARGUMENT")
    value: Plain = message[name]
    return value


def complete(identifier: Plain, *parts: str) -> None:
    if not all(identifier.get(part) for part in parts):
        raise Refused("INVALID_ARGUMENT")


def complete_node(identifier: Plain) -> None:
    complete(present(identifier, "execution_id"), "project", "domain", "name")
    complete(identifier, "node_id")


def complete_task(identifier: Plain) -> None:
    if identifier.get("resource_type") != "TASK":
        raise Refused("INVALID_ARGUMENT")
    complete(identifier, "project", "domain", "name", "version")


def fits(too_large: bool) -> None:
    if too_large:
        raise Refused("RESOURCE_EXHAUSTED")


def phase_of(event: Plain) -> str:
    phase = event.get("phase", "UNDEFINED")
    if not isinstance(phase, str):
        raise Refused("INVALID_ARGUMENT")
    return phase


def occurred_at(event: Plain) -> int:
    occurred: int = event.get("occurred_at", _YEAR_10000)
    if not _YEAR_1 <= occurred < _YEAR_10000:
        raise Refused("INVALID_ARGUMENT")
    return occurred


def check_producer(event: Plain, execution: Plain) -> None:
    producer = event.get("producer_id", "")
    if producer not in UNNAMED and producer != execution["cluster"]:
        raise Refused("FAILED_PRECONDITION", {"incompatible_cluster": {"cluster": producer}})


def over(phase: str) -> Refused:
    return Refused("FAILED_PRECONDITION", {"already_in_terminal_state": {"current_phase": phase}})


def turns_back(stored: str, phase: str) -> bool:
    return stored in _PROGRESS and phase in _PROGRESS and _PROGRESS[phase] < _PROGRESS[stored]


def put(message: Plain, name: str, value: Any, default: Any = "") -> None:
    """Set a field, or remove it when the value is its default, as in a message."""
    message.pop(name, None)
    if value != default:
        message[name] = value
