"""Resources of tasks: the task's own requests and limits, platform defaults and limits (engine.md#task-resources).

Executions passes the platform's amounts to an engine, and an engine applies them to each task.

A quantity that cannot be parsed counts as zero, and zero as unset.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from flyteidl.admin.matchable_resource_pb2 import TaskResourceAttributes, TaskResourceSpec
from flyteidl.core.tasks_pb2 import Resources, TaskTemplate

from services.contracts.quantities import canonical_quantity, is_amount, parse_quantity

# Resources that every container has, and those that it has only when the task or the defaults set them.
_ALWAYS = (Resources.CPU, Resources.MEMORY)
_WHEN_NAMED = (Resources.EPHEMERAL_STORAGE, Resources.GPU)
_NONE = "0"
# The key in a container's config of the queue for tasks that the task makes (engine.md#queues).
CHILD_QUEUE = "child_queue"


@dataclass(frozen=True)
class Amount:
    """A quantity as it is written, and its value."""

    text: str
    value: Fraction

    def __bool__(self) -> bool:
        return bool(self.value)


def prepared(task: TaskTemplate, platform: TaskResourceAttributes, queue: str) -> TaskTemplate:
    """Return `task` with the resources of its container and the child queue; other tasks are returned unchanged."""
    if task.WhichOneof("target") != "container":
        return task
    result = TaskTemplate()
    result.CopyFrom(task)
    result.container.resources.CopyFrom(container_resources(task.container.resources, platform))
    if queue:
        result.container.config.add(key=CHILD_QUEUE, value=queue)
    return result


def container_resources(requested: Resources, platform: TaskResourceAttributes) -> Resources:
    """Return the resources of a container whose task has the resources `requested`.

    The request is the task's, else its limit, else the platform's default; the limit is the task's, else the request;
    neither exceeds the platform's limit, nor the request the limit.
    """
    requests, limits = _amounts(requested.requests), _amounts(requested.limits)
    defaults, ceilings = _of_platform(platform.defaults), _of_platform(platform.limits)
    given = Resources()
    for name in (*_ALWAYS, *_WHEN_NAMED):
        request = requests.get(name) or limits.get(name) or defaults.get(name)
        if request is None and name in _WHEN_NAMED:
            continue
        request = request or Amount(_NONE, Fraction(0))
        ceiling = ceilings.get(name)
        limit = _least(limits.get(name) or request, ceiling)
        request = _least(_least(request, ceiling), limit)
        given.requests.add(name=name, value=canonical_quantity(request.text))
        given.limits.add(name=name, value=canonical_quantity(limit.text))
    return given


def with_valid_amounts(
    attributes: TaskResourceAttributes, configured: TaskResourceAttributes
) -> TaskResourceAttributes:
    """Return `attributes` with amounts of `configured` instead of those that cannot be parsed.

    Such amounts were stored before attributes were checked; without a replacement the platform's limit would not apply.
    """
    result = TaskResourceAttributes()
    result.CopyFrom(attributes)
    for spec, otherwise in ((result.defaults, configured.defaults), (result.limits, configured.limits)):
        for field, text in spec.ListFields():
            if not is_amount(text):
                setattr(spec, field.name, getattr(otherwise, field.name))
    return result


def _amounts(entries: Iterable[Resources.ResourceEntry]) -> dict[Resources.ResourceName, Amount]:
    return {entry.name: amount for entry in entries if (amount := _amount(entry.value))}


def _of_platform(spec: TaskResourceSpec) -> Mapping[Resources.ResourceName, Amount]:
    amounts = {
        Resources.CPU: spec.cpu,
        Resources.MEMORY: spec.memory,
        Resources.EPHEMERAL_STORAGE: spec.ephemeral_storage,
        Resources.GPU: spec.gpu,
    }
    return {name: amount for name, text in amounts.items() if (amount := _amount(text))}


def _amount(text: str) -> Amount | None:
    try:
        amount = Amount(text, parse_quantity(text))
    except ValueError:
        return None
    return amount or None


def _least(amount: Amount, ceiling: Amount | None) -> Amount:
    return ceiling if ceiling is not None and ceiling.value < amount.value else amount
