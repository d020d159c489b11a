"""A simple model of a task's external resources: one list, into which every event is merged.

Rules: events.md#first-task-event, events.md#log-merge, events.md#log-filter, events.md#task-metadata-merge.
"""

from dataclasses import dataclass, field
from typing import Any

from flyteidl.core.catalog_pb2 import CACHE_DISABLED
from flyteidl.core.execution_pb2 import TaskExecution, TaskLog
from flyteidl.event.event_pb2 import ExternalResourceInfo, TaskExecutionEvent, TaskExecutionMetadata

PENDING = (TaskExecution.QUEUED, TaskExecution.INITIALIZING)
TERMINAL = (TaskExecution.SUCCEEDED, TaskExecution.FAILED, TaskExecution.ABORTED)


def resource(index: int, attempt: int = 0, **fields: Any) -> ExternalResourceInfo:
    return ExternalResourceInfo(index=index, retry_attempt=attempt, **fields)


def metadata_with(*resources: ExternalResourceInfo) -> TaskExecutionMetadata:
    return TaskExecutionMetadata(external_resources=resources)


@dataclass
class ResourceList:
    """The resources that clients must receive after the accepted events of a task."""

    phase: int | None = None
    present: bool = False  # whether there was any metadata so far
    resources: list[ExternalResourceInfo] = field(default_factory=list)

    def take(self, event: TaskExecutionEvent) -> None:
        changed = self.phase not in (None, event.phase)
        self.phase = event.phase
        if event.HasField("metadata"):
            for new in event.metadata.external_resources:
                same = [stored for stored in self.resources if self.present and _sort_key(stored) == _sort_key(new)]
                if same:
                    _merge(same[0], new)
                else:
                    self.resources.append(ExternalResourceInfo.FromString(new.SerializeToString()))
                    if self.present:
                        self.resources.sort(key=_sort_key)
            self.resources.sort(key=_sort_key)
            self.present = True
        if changed:
            for stored in self.resources:
                _set_logs(stored, [log for log in stored.logs if _shown(log, event.phase)])


def _sort_key(info: ExternalResourceInfo) -> tuple[int, int]:
    return info.index, info.retry_attempt


def _merge(stored: ExternalResourceInfo, new: ExternalResourceInfo) -> None:
    stored.external_id = new.external_id or stored.external_id
    stored.phase = new.phase
    if new.cache_status != CACHE_DISABLED:
        stored.cache_status = new.cache_status
    if new.HasField("custom_info"):
        stored.custom_info.CopyFrom(new.custom_info)
    if new.HasField("log_context"):
        stored.log_context.CopyFrom(new.log_context)
    if new.logs:
        names = [log.name for log in new.logs if log.name]
        uris = [log.uri for log in new.logs]
        old = [log for log in stored.logs if log.uri not in uris and log.name not in names]
        _set_logs(stored, [*new.logs, *old])


def _set_logs(stored: ExternalResourceInfo, logs: list[TaskLog]) -> None:
    copies = [TaskLog.FromString(log.SerializeToString()) for log in logs]
    del stored.logs[:]
    stored.logs.extend(copies)


def _shown(log: TaskLog, phase: int) -> bool:
    return not (phase in TERMINAL and log.HideOnceFinished) and not (phase in PENDING and not log.ShowWhilePending)
