"""Merges of lists and structs of a task attempt in the model of events (events.md#createtaskevent).

Attempts are plain dictionaries with the fields of a TaskExecutionClosure.
"""

from typing import Any

from tests.support.plain import Plain

_OVER = {"SUCCEEDED", "FAILED", "ABORTED"}
_PENDING = {"QUEUED", "INITIALIZING"}


def first_task(event: Plain) -> Plain:
    """Return the closure after a first event: logs are unfiltered, subtasks ordered (events.md#first-task-event)."""
    closure: Plain = {"created_at": event["occurred_at"]}
    for name in ("logs", "custom_info", "task_type", "event_version"):
        if name in event:
            closure[name] = event[name]
    if "metadata" in event:
        closure["metadata"] = _in_order(dict(event["metadata"]))
    if event.get("phase") == "RUNNING":
        closure["started_at"] = event["occurred_at"]
    return closure


def later_task(closure: Plain, event: Plain, stored: str, phase: str) -> None:
    """Merge a later event into `closure` (events.md#later-task-events)."""
    if phase == "RUNNING" and stored != "RUNNING":
        closure.setdefault("started_at", event["occurred_at"])
    if phase in _OVER:
        closure.setdefault("started_at", closure["created_at"])
    _put_list(closure, "logs", _shown(merge_logs(closure.get("logs", []), event.get("logs", [])), phase))
    if "custom_info" in event:
        old = closure.get("custom_info")
        closure["custom_info"] = event["custom_info"] if old is None else merge_patch(old, event["custom_info"])
    if "metadata" in event:
        old = closure.get("metadata")
        closure["metadata"] = _in_order(dict(event["metadata"])) if old is None else merged(old, event["metadata"])
    if phase != stored:
        for resource in closure.get("metadata", {}).get("external_resources", []):
            _put_list(resource, "logs", _shown(resource.get("logs", []), phase))
    if event.get("event_version", 0) > closure.get("event_version", 0):
        closure["event_version"] = event["event_version"]


def add_reasons(closure: Plain, event: Plain) -> None:
    """Append the event's list of reasons, else its single reason unless repeated (events.md#task-reasons)."""
    if "reasons" in event:
        reasons = [(reason.get("occurred_at"), reason.get("reason", "")) for reason in event["reasons"]]
    elif event.get("reason") and event["reason"] != closure.get("reason", ""):
        reasons = [(event["occurred_at"], event["reason"])]
    else:
        return
    for occurred, message in reasons:
        entry = ({} if occurred is None else {"occurred_at": occurred}) | ({"message": message} if message else {})
        closure.setdefault("reasons", []).append(entry)
    closure.pop("reason", None)
    if reasons[-1][1]:
        closure["reason"] = reasons[-1][1]


def merge_logs(old: list[Plain], new: list[Plain]) -> list[Plain]:
    """Return the merged logs (events.md#log-merge)."""
    if not new or not old:
        return new or old
    uris = [log.get("uri", "") for log in new]
    names = [log["name"] for log in new if log.get("name")]
    return new + [log for log in old if log.get("uri", "") not in uris and log.get("name") not in names]


def merge_patch(target: Any, patch: Any) -> Any:
    """Return `target` after a merge patch (RFC 7386, section 2)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def merged(old: Plain, new: Plain) -> Plain:
    """Return the merged metadata (events.md#task-metadata-merge)."""
    result = dict(old)
    for name in ("generated_name", "plugin_identifier", "instance_class"):  # DEFAULT is absent, as "" is
        if new.get(name):
            result[name] = new[name]
    _put_list(result, "resource_pool_info", new.get("resource_pool_info", []))
    resources = {_sort_key(resource): resource for resource in old.get("external_resources", [])}
    for resource in new.get("external_resources", []):
        key = _sort_key(resource)
        resources[key] = _merged_resource(resources[key], resource) if key in resources else dict(resource)
    _put_list(result, "external_resources", list(resources.values()))
    return _in_order(result)


def _merged_resource(old: Plain, new: Plain) -> Plain:
    result = dict(old)
    result.pop("phase", None)
    for name in ("external_id", "phase", "cache_status", "custom_info", "workflow_node_metadata", "log_context"):
        if name in new:
            result[name] = new[name]
    _put_list(result, "logs", merge_logs(old.get("logs", []), new.get("logs", [])))
    return result


def _in_order(metadata: Plain) -> Plain:
    if "external_resources" in metadata:
        metadata["external_resources"] = sorted(map(dict, metadata["external_resources"]), key=_sort_key)
    return metadata


def _sort_key(resource: Plain) -> tuple[int, int]:
    return resource.get("index", 0), resource.get("retry_attempt", 0)


def _shown(logs: list[Plain], phase: str) -> list[Plain]:
    """Return the logs that stay in `phase` (events.md#log-filter)."""
    if phase in _OVER:
        return [log for log in logs if not log.get("HideOnceFinished")]
    if phase in _PENDING:
        return [log for log in logs if log.get("ShowWhilePending")]
    return logs


def _put_list(message: Plain, name: str, values: list[Plain]) -> None:
    message.pop(name, None)
    if values:
        message[name] = values
