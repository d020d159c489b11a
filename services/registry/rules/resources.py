"""Checks of the resource requests and limits of a task's containers, also against the limits for tasks.

See registry.md#task-resource-limits. Quantities are compared exactly, and a container's limit without a request is
compared with the limit for tasks, too; flyteadmin rounds up to whole numbers and checks requests only.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from flyteidl.admin.matchable_resource_pb2 import MatchableAttributesConfiguration, TaskResourceSpec
from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.core.tasks_pb2 import Resources

from services.contracts.identifiers import identifier_text
from services.contracts.quantities import is_amount, parse_amount
from services.kit.errors import InvalidArgument

GPU = Resources.GPU
# The resources that are checked, in this order. STORAGE is an old name that nothing reads.
CHECKED = (Resources.CPU, Resources.GPU, Resources.MEMORY, Resources.EPHEMERAL_STORAGE)


@dataclass(frozen=True)
class Entry:
    """One amount of one resource, as sent."""

    resource: Resources.ResourceName
    value: str


class ResourceLimits:
    """The most that a task may request of each resource, as Kubernetes quantities; empty or zero is no limit."""

    def __init__(self, quantities: Mapping[Resources.ResourceName, str]) -> None:
        self._limits = {
            resource: Entry(resource, value) for resource, value in quantities.items() if value and parse_amount(value)
        }

    def of(self, resource: Resources.ResourceName) -> Entry | None:
        """Return the limit of `resource`; None when there is none."""
        return self._limits.get(resource)


def task_limits(matching: Iterable[MatchableAttributesConfiguration], platform: ResourceLimits) -> ResourceLimits:
    """Return the limits for a task (projects.md#use-of-attributes).

    Args:
        matching: The attributes that match the task's project-domain, most specific first.
        platform: The limits of the settings, for a task to which no limits of attributes apply.
    """
    for configuration in matching:
        if configuration.attributes.HasField("task_resource_attributes"):
            return limits_of(configuration.attributes.task_resource_attributes.limits, platform)
    return platform


def limits_of(limits: TaskResourceSpec, platform: ResourceLimits) -> ResourceLimits:
    """Return the `limits` that an attribute sets; they replace all limits of the platform.

    Where one cannot be parsed, which earlier releases allowed, the platform's applies.
    """
    quantities = {
        Resources.CPU: limits.cpu,
        Resources.GPU: limits.gpu,
        Resources.MEMORY: limits.memory,
        Resources.EPHEMERAL_STORAGE: limits.ephemeral_storage,
    }
    readable = {resource: value for resource, value in quantities.items() if not value or is_amount(value)}
    unreadable = quantities.keys() - readable
    of_platform = {resource: limit.value for resource in unreadable if (limit := platform.of(resource))}
    return ResourceLimits(readable | of_platform)


def check_resources(
    task: Identifier, requests: Iterable[Entry], container_limits: Iterable[Entry], limits: ResourceLimits
) -> None:
    """Raise InvalidArgument unless a container of `task` may have these requests and limits within `limits`."""
    requested, limited = _amounts(task, requests), _amounts(task, container_limits)
    for resource in CHECKED:
        request, limit = requested.get(resource), limited.get(resource)
        if resource == GPU:
            _check_gpu(request, limit)
        elif request and limit and _size(limit) < _size(request):
            raise InvalidArgument(
                f"Requested {_name(resource)} default [{request.value}] is greater than the limit [{limit.value}]. "
                "Please fix your configuration"
            )
        most = limits.of(resource)
        if most and limit and _size(limit) > _size(most):
            raise _above(most, limit, "limit")
        if most and request and _size(request) > _size(most):
            raise _above(most, request, "default")


def _amounts(task: Identifier, entries: Iterable[Entry]) -> dict[Resources.ResourceName, Entry]:
    amounts: dict[Resources.ResourceName, Entry] = {}
    for entry in entries:
        if entry.resource not in CHECKED:
            continue
        name = _name(entry.resource)
        if entry.resource in amounts:
            raise InvalidArgument(f"can't specify {name} limit for task [{identifier_text(task)}] multiple times")
        try:
            size = _size(entry)
        except ValueError as error:
            raise InvalidArgument(
                f"Parsing of {name} request failed for value {entry.value} - reason {error}. "
                "Please follow Kubernetes conventions for resources"
            ) from error
        if entry.resource == GPU and size.denominator != 1:
            raise InvalidArgument(
                f"gpu for [{identifier_text(task)}] must be a whole number, got: {entry.value} instead"
            )
        amounts[entry.resource] = entry
    return amounts


def _check_gpu(request: Entry | None, limit: Entry | None) -> None:
    """Raise InvalidArgument unless both amounts, when both are given, are equal: GPUs cannot be overcommitted."""
    if request and limit and _size(request) != _size(limit):
        raise InvalidArgument(
            "For extended resource 'gpu' the default value must equal the limit value: "
            f"[{request.value}] is not [{limit.value}]"
        )


def _above(most: Entry, entry: Entry, what: str) -> InvalidArgument:
    return InvalidArgument(
        f"Requested {_name(entry.resource)} {what} [{entry.value}] is greater than current limit set in the platform "
        f"configuration [{most.value}]. Please contact Flyte Admins to change these limits or consult the "
        "configuration"
    )


def _size(entry: Entry) -> Fraction:
    return parse_amount(entry.value)


def _name(resource: Resources.ResourceName) -> str:
    return Resources.ResourceName.Name(resource)
