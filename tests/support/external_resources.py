"""The plainest account of a task's external resources: one list, every event merged into it.

events.md 4.3, 4.6, 4.7 and 4.9.
"""

from dataclasses import dataclass, field
from typing import Any

from flyteidl.core.catalog_pb2 import CACHE_DISABLED
from flyteidl.core.execution_pb2 import TaskExecution, TaskLog
from flyteidl.event.event_pb2 import ExternalResourceInfo, TaskExecutionEvent, TaskExecutionMetadata

PENDING = (TaskExecution.QUEUED, TaskExecution.INITIALIZING)
OVER = (TaskExecution.SUCCEEDED, TaskExecution.FAILED, TaskExecution.ABORTED)


def resource(index: int, attempt: int = 0, **fields: Any) -> ExternalResourceInfo:
    return ExternalResourceInfo(index=index, retry_attempt=attempt, **fields)


def told(*resources: ExternalResourceInfo) -> TaskExecutionMetadata:
    return TaskExecutionMetadata(external_resources=resources)


@dataclass
class ResourceList:
    """What a client must find after the accepted events of a task."""

    phase: int | None = None
    present: bool = False  # any metadata so far?
    resources: list[ExternalResourceInfo] = field(default_factory=list)

    def take(self, event: TaskExecutionEvent) -> None:
        changed = self.phase not in (None, event.phase)
        self.phase = event.phase
        if event.HasField("metadata"):
            for entry in event.metadata.external_resources:
                same = [kept for kept in self.resources if self.present and _place(kept) == _place(entry)]
                if same:
                    _merge(same[0], entry)
                else:
                    self.resources.append(ExternalResourceInfo.FromString(entry.SerializeToString()))
                    if self.present:
                        self.resources.sort(key=_place)
            self.resources.sort(key=_place)
            self.present = True
        if changed:
            for entry in self.resources:
                _set_logs(entry, [log for log in entry.logs if _shown(log, event.phase)])


def _place(entry: ExternalResourceInfo) -> tuple[int, int]:
    return entry.index, entry.retry_attempt


def _merge(kept: ExternalResourceInfo, entry: ExternalResourceInfo) -> None:
    kept.external_id = entry.external_id or kept.external_id
    kept.phase = entry.phase
    if entry.cache_status != CACHE_DISABLED:
        kept.cache_status = entry.cache_status
    if entry.HasField("custom_info"):
        kept.custom_info.CopyFrom(entry.custom_info)
    if entry.HasField("log_context"):
        kept.log_context.CopyFrom(entry.log_context)
    if entry.logs:
        names = [log.name for log in entry.logs if log.name]
        uris = [log.uri for log in entry.logs]
        old = [log for log in kept.logs if log.uri not in uris and log.name not in names]
        _set_logs(kept, [*entry.logs, *old])


def _set_logs(entry: ExternalResourceInfo, logs: list[TaskLog]) -> None:
    copies = [TaskLog.FromString(log.SerializeToString()) for log in logs]
    del entry.logs[:]
    entry.logs.extend(copies)


def _shown(log: TaskLog, phase: int) -> bool:
    return not (phase in OVER and log.HideOnceFinished) and not (phase in PENDING and not log.ShowWhilePending)
