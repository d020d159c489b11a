"""Task metadata over the events of an attempt: the rules of its merge (events.md 4.9)."""

from bisect import bisect_left
from collections.abc import Iterable

from flyteidl.core.catalog_pb2 import CACHE_DISABLED
from flyteidl.core.execution_pb2 import TaskLog
from flyteidl.event.event_pb2 import ExternalResourceInfo, TaskExecutionMetadata

from services.executions.rules.events.logs import merged_logs, visible_logs


def sort_resources(metadata: TaskExecutionMetadata) -> None:
    """Order the external resources by (index, attempt), which later events rely on."""
    metadata.external_resources.sort(key=_place)


def merge_metadata(stored: TaskExecutionMetadata, told: TaskExecutionMetadata, *, present: bool) -> None:
    """Merge the new metadata into `stored` in place; it is taken as it is when there is none (`present` is false)."""
    if not present:
        stored.CopyFrom(told)
        sort_resources(stored)
        return
    merge_description(stored, told)
    merge_resources(stored, told.external_resources)


def merge_description(stored: TaskExecutionMetadata, told: TaskExecutionMetadata) -> None:
    """Merge everything but the external resources; resource_pool_info is replaced even by an empty list."""
    stored.generated_name = told.generated_name or stored.generated_name
    stored.plugin_identifier = told.plugin_identifier or stored.plugin_identifier
    if told.instance_class != TaskExecutionMetadata.DEFAULT:
        stored.instance_class = told.instance_class
    del stored.resource_pool_info[:]
    stored.resource_pool_info.extend(told.resource_pool_info)


def merge_resources(stored: TaskExecutionMetadata, told: Iterable[ExternalResourceInfo]) -> None:
    """Merge the external resources `told` into those of `stored`, which are in order and stay so."""
    resources = stored.external_resources
    places = [_place(resource) for resource in resources]
    for resource in told:
        place = _place(resource)
        at = bisect_left(places, place)
        if at < len(places) and places[at] == place:
            _merge_resource(resources[at], resource)
        else:
            places.insert(at, place)
            resources.insert(at, resource)


def filter_resource_logs(metadata: TaskExecutionMetadata, phase: int) -> None:
    """Keep the logs of every external resource that may be shown in the task's (not the resource's) `phase`."""
    for resource in metadata.external_resources:
        if resource.logs:
            _set_logs(resource, visible_logs(resource.logs, phase))


def _merge_resource(stored: ExternalResourceInfo, told: ExternalResourceInfo) -> None:
    stored.external_id = told.external_id or stored.external_id
    stored.phase = told.phase
    if told.cache_status != CACHE_DISABLED:
        stored.cache_status = told.cache_status
    if told.logs:
        _set_logs(stored, merged_logs(stored.logs, told.logs))
    for name in ("custom_info", "workflow_node_metadata", "log_context"):
        if told.HasField(name):
            getattr(stored, name).CopyFrom(getattr(told, name))


def _set_logs(resource: ExternalResourceInfo, logs: list[TaskLog]) -> None:
    replaced = ExternalResourceInfo(logs=logs).logs
    del resource.logs[:]
    resource.logs.extend(replaced)


def _place(resource: ExternalResourceInfo) -> tuple[int, int]:
    return resource.index, resource.retry_attempt
