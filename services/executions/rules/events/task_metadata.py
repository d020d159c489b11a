"""Merge of task metadata (events.md#task-metadata-merge)."""

from bisect import bisect_left
from collections.abc import Iterable

from flyteidl.core.catalog_pb2 import CACHE_DISABLED
from flyteidl.core.execution_pb2 import TaskLog
from flyteidl.event.event_pb2 import ExternalResourceInfo, TaskExecutionMetadata

from services.executions.rules.events.logs import merge_logs, visible_logs


def sort_resources(metadata: TaskExecutionMetadata) -> None:
    """Order the external resources by (index, attempt), which later events rely on."""
    metadata.external_resources.sort(key=_sort_key)


def merge_metadata(stored: TaskExecutionMetadata, new: TaskExecutionMetadata, *, present: bool) -> None:
    """Merge `new` into `stored` in place; without stored metadata (`present` is false) `new` is copied."""
    if not present:
        stored.CopyFrom(new)
        sort_resources(stored)
        return
    merge_description(stored, new)
    merge_resources(stored, new.external_resources)


def merge_description(stored: TaskExecutionMetadata, new: TaskExecutionMetadata) -> None:
    """Merge everything but the external resources; resource_pool_info is replaced even by an empty list."""
    stored.generated_name = new.generated_name or stored.generated_name
    stored.plugin_identifier = new.plugin_identifier or stored.plugin_identifier
    if new.instance_class != TaskExecutionMetadata.DEFAULT:
        stored.instance_class = new.instance_class
    del stored.resource_pool_info[:]
    stored.resource_pool_info.extend(new.resource_pool_info)


def merge_resources(stored: TaskExecutionMetadata, new: Iterable[ExternalResourceInfo]) -> None:
    """Merge `new` external resources into those of `stored`, which are in order and stay so."""
    resources = stored.external_resources
    keys = [_sort_key(resource) for resource in resources]
    for resource in new:
        key = _sort_key(resource)
        index = bisect_left(keys, key)
        if index < len(keys) and keys[index] == key:
            _merge_resource(resources[index], resource)
        else:
            keys.insert(index, key)
            resources.insert(index, resource)


def filter_resource_logs(metadata: TaskExecutionMetadata, phase: int) -> None:
    """Filter the logs of every external resource by the task's (not the resource's) `phase`."""
    for resource in metadata.external_resources:
        if resource.logs and len(visible := visible_logs(resource.logs, phase)) < len(resource.logs):
            _set_logs(resource, visible)


def _merge_resource(stored: ExternalResourceInfo, new: ExternalResourceInfo) -> None:
    stored.external_id = new.external_id or stored.external_id
    stored.phase = new.phase
    if new.cache_status != CACHE_DISABLED:
        stored.cache_status = new.cache_status
    if new.logs:
        _set_logs(stored, merge_logs(stored.logs, new.logs))
    for name in ("custom_info", "workflow_node_metadata", "log_context"):
        if new.HasField(name):
            getattr(stored, name).CopyFrom(getattr(new, name))


def _set_logs(resource: ExternalResourceInfo, logs: list[TaskLog]) -> None:
    copies = ExternalResourceInfo(logs=logs).logs
    del resource.logs[:]
    resource.logs.extend(copies)


def _sort_key(resource: ExternalResourceInfo) -> tuple[int, int]:
    return resource.index, resource.retry_attempt
