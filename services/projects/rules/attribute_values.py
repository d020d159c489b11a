"""Checks of the values of matchable attributes (projects.md#values-of-attributes).

flyteadmin accepts any. It reads a malformed amount as zero, and zero as no limit; here it is refused.
"""

from fractions import Fraction

from flyteidl.admin.matchable_resource_pb2 import MatchingAttributes, PluginOverride, TaskResourceAttributes
from flyteidl.core.execution_pb2 import QualityOfService

from services.contracts.quantities import parse_amount
from services.kit.errors import InvalidArgument

_BEHAVIORS = frozenset(PluginOverride.MissingPluginBehavior.values())
_RESOURCES = ("cpu", "gpu", "memory", "storage", "ephemeral_storage")


def check_values(attributes: MatchingAttributes) -> None:
    """Raise InvalidArgument for values that are invalid or contradict one another."""
    match attributes.WhichOneof("target"):
        case "task_resource_attributes":
            _check_task_resources(attributes.task_resource_attributes)
        case "plugin_overrides":
            for override in attributes.plugin_overrides.overrides:
                if override.missing_plugin_behavior not in _BEHAVIORS:
                    raise InvalidArgument("invalid value for missing_plugin_behavior")
        case "quality_of_service":
            _check_quality_of_service(attributes.quality_of_service)


def _check_task_resources(resources: TaskResourceAttributes) -> None:
    for name in _RESOURCES:
        default, limit = _amount(resources, "defaults", name), _amount(resources, "limits", name)
        if limit and default > limit:
            texts = getattr(resources.defaults, name), getattr(resources.limits, name)
            raise InvalidArgument(
                f"Requested {name} default [{texts[0]}] is greater than the limit [{texts[1]}]. "
                "Please fix your configuration"
            )


def _amount(resources: TaskResourceAttributes, part: str, name: str) -> Fraction:
    """Return an amount, zero for one that is not given."""
    text: str = getattr(getattr(resources, part), name)
    if not text:
        return Fraction(0)
    field = f"task_resource_attributes.{part}.{name}"
    try:
        amount = parse_amount(text)
    except ValueError as error:
        raise InvalidArgument(
            f"Parsing of {field} failed for value {text} - reason {error}. "
            "Please follow Kubernetes conventions for resources"
        ) from error
    if name == "gpu" and amount.denominator != 1:
        raise InvalidArgument(f"{field} must be a whole number, got: {text} instead")
    return amount


def _check_quality_of_service(quality: QualityOfService) -> None:
    if quality.tier not in QualityOfService.Tier.values():
        raise InvalidArgument("invalid value for tier")
    budget = quality.spec.queueing_budget
    if budget.seconds < 0 or budget.nanos < 0:
        raise InvalidArgument("invalid value for queueing_budget")
