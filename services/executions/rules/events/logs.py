"""Merge and filter of task logs (events.md#log-merge, events.md#log-filter)."""

from collections.abc import Iterable, Sequence

from flyteidl.core.execution_pb2 import TaskExecution, TaskLog

from services.contracts.phases import TASK_TERMINAL

PENDING = frozenset((TaskExecution.QUEUED, TaskExecution.INITIALIZING))
FILTERING = PENDING | TASK_TERMINAL
"""The phases in which logs are dropped."""


def merge_logs(stored: Sequence[TaskLog], new: Sequence[TaskLog]) -> list[TaskLog]:
    """Return the new logs, then the stored ones that none of them replaces by URI or by (not empty) name."""
    uris = {log.uri for log in new}
    names = {log.name for log in new if log.name}
    return [*new, *(log for log in stored if log.uri not in uris and log.name not in names)]


def visible_logs(logs: Iterable[TaskLog], phase: int) -> list[TaskLog]:
    """Return the logs that stay in `phase`; a dropped one comes back with the next event that contains it."""
    pending, terminal = phase in PENDING, phase in TASK_TERMINAL
    return [
        log for log in logs if not (terminal and log.HideOnceFinished) and not (pending and not log.ShowWhilePending)
    ]
