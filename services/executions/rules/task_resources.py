"""What tasks of an execution get of a machine: platform defaults and limits, and what they make of a task's own wishes.

executions.md 2.8 and projects.md 12. A quantity that cannot be read counts as zero, and zero as none.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from flyteidl.admin.matchable_resource_pb2 import TaskResourceAttributes, TaskResourceSpec
from flyteidl.core.tasks_pb2 import Resources

from services.contracts.quantities import canonical_quantity, is_amount, parse_quantity

# What a container is always given, and what only when somebody speaks of it.
_ALWAYS = (Resources.CPU, Resources.MEMORY)
_WHEN_NAMED = (Resources.EPHEMERAL_STORAGE, Resources.GPU)
_NONE = "0"


@dataclass(frozen=True)
class Amount:
    """A quantity as somebody wrote it, and its value."""

    text: str
    value: Fraction

    def __bool__(self) -> bool:
        return bool(self.value)


def container_resources(asked: Resources, platform: TaskResourceAttributes) -> Resources:
    """Return the resources that a container is given which asks for `asked`.

    The request is the task's, else its limit, else the platform's default; the limit is the task's, else the request;
    neither exceeds the platform's limit, nor the request the limit.
    """
    requests, limits = _amounts(asked.requests), _amounts(asked.limits)
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


def readable(attributes: TaskResourceAttributes, configured: TaskResourceAttributes) -> TaskResourceAttributes:
    """Return what attributes say, and what is `configured` where an amount of theirs cannot be read.

    Such were stored before attributes were checked; one that counted as none would lift the platform's limit.
    """
    told = TaskResourceAttributes()
    told.CopyFrom(attributes)
    for spec, otherwise in ((told.defaults, configured.defaults), (told.limits, configured.limits)):
        for field, text in spec.ListFields():
            if not is_amount(text):
                setattr(spec, field.name, getattr(otherwise, field.name))
    return told


def _amounts(entries: Iterable[Resources.ResourceEntry]) -> dict[Resources.ResourceName, Amount]:
    return {entry.name: amount for entry in entries if (amount := _amount(entry.value))}


def _of_platform(spec: TaskResourceSpec) -> Mapping[Resources.ResourceName, Amount]:
    told = {
        Resources.CPU: spec.cpu,
        Resources.MEMORY: spec.memory,
        Resources.EPHEMERAL_STORAGE: spec.ephemeral_storage,
        Resources.GPU: spec.gpu,
    }
    return {name: amount for name, text in told.items() if (amount := _amount(text))}


def _amount(text: str) -> Amount | None:
    try:
        amount = Amount(text, parse_quantity(text))
    except ValueError:
        return None
    return amount or None


def _least(amount: Amount, ceiling: Amount | None) -> Amount:
    return ceiling if ceiling is not None and ceiling.value < amount.value else amount
