"""Task logs over the events of an attempt (events.md 4.6, 4.7)."""

from collections.abc import Iterable, Sequence

from flyteidl.core.execution_pb2 import TaskExecution, TaskLog

from services.contracts.phases import TASK_TERMINAL

_PENDING = frozenset((TaskExecution.QUEUED, TaskExecution.INITIALIZING))


def merged_logs(stored: Sequence[TaskLog], told: Sequence[TaskLog]) -> list[TaskLog]:
    """Return the new logs, then the old ones that none of them replaces by URI or by (not empty) name."""
    uris = {log.uri for log in told}
    names = {log.name for log in told if log.name}
    return [*told, *(log for log in stored if log.uri not in uris and log.name not in names)]


def visible_logs(logs: Iterable[TaskLog], phase: int) -> list[TaskLog]:
    """Return the logs to keep in `phase`; a dropped one comes back with the next event that lists it."""
    pending, terminal = phase in _PENDING, phase in TASK_TERMINAL
    return [
        log for log in logs if not (terminal and log.HideOnceFinished) and not (pending and not log.ShowWhilePending)
    ]
