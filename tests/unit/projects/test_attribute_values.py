"""Values of matchable attributes: amounts must be valid and must not contradict one another."""

from typing import Any

import pytest
from flyteidl.admin.matchable_resource_pb2 import (
    MatchingAttributes,
    PluginOverride,
    PluginOverrides,
    TaskResourceAttributes,
    TaskResourceSpec,
)
from flyteidl.core.execution_pb2 import QualityOfService, QualityOfServiceSpec
from google.protobuf.duration_pb2 import Duration

from services.kit.errors import InvalidArgument
from services.projects.rules.attributes import Level, Scope, checked_kind

SCOPE = Scope(Level.PROJECT_DOMAIN, "potato", "development")
NAMES = ("cpu", "gpu", "memory", "storage", "ephemeral_storage")
WRONG_FORMAT = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


def resources(defaults: dict[str, str] | None = None, limits: dict[str, str] | None = None) -> MatchingAttributes:
    return MatchingAttributes(
        task_resource_attributes=TaskResourceAttributes(
            defaults=TaskResourceSpec(**defaults or {}), limits=TaskResourceSpec(**limits or {})
        )
    )


def message(given: MatchingAttributes) -> str:
    with pytest.raises(InvalidArgument) as refused:
        checked_kind(SCOPE, given)
    return refused.value.message


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", ["defaults", "limits"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("many", WRONG_FORMAT),
        ("m", WRONG_FORMAT),
        ("1 Gi", WRONG_FORMAT),
        ("1ki", "unable to parse quantity's suffix"),
        ("-1", "must be greater than or equal to 0"),
    ],
)
def test_invalid_amount_is_reported_by_field_and_value(name: str, part: str, text: str, reason: str) -> None:
    assert message(resources(**{part: {name: text}})) == (
        f"Parsing of task_resource_attributes.{part}.{name} failed for value {text} - reason {reason}. "
        "Please follow Kubernetes conventions for resources"
    )


@pytest.mark.parametrize("name", NAMES)
def test_default_above_its_limit_is_refused(name: str) -> None:
    assert message(resources({name: "3"}, {name: "2"})) == (
        f"Requested {name} default [3] is greater than the limit [2]. Please fix your configuration"
    )


@pytest.mark.parametrize("part", ["defaults", "limits"])
def test_part_of_a_gpu_is_refused(part: str) -> None:
    assert message(resources(**{part: {"gpu": "500m"}})) == (
        f"task_resource_attributes.{part}.gpu must be a whole number, got: 500m instead"
    )


@pytest.mark.parametrize(
    ("defaults", "limits"),
    [
        ({}, {}),
        ({"cpu": "500m", "memory": "1Gi"}, {"cpu": "0.5", "memory": "1024Mi", "gpu": "1"}),
        # Without a limit, or with a limit of zero, a default may be any amount.
        ({"cpu": "64", "memory": "1Ti"}, {"cpu": "0", "memory": ""}),
        ({}, {"cpu": "0", "memory": "0Mi", "gpu": "0", "storage": "0", "ephemeral_storage": "0"}),
    ],
)
def test_amounts_that_fit_are_allowed(defaults: dict[str, str], limits: dict[str, str]) -> None:
    checked_kind(SCOPE, resources(defaults, limits))


def quality(**spec: Any) -> MatchingAttributes:
    return MatchingAttributes(quality_of_service=QualityOfService(**spec))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            MatchingAttributes(
                plugin_overrides=PluginOverrides(
                    overrides=[PluginOverride(task_type="a"), PluginOverride(task_type="b", missing_plugin_behavior=7)]  # type: ignore[arg-type]  # from a newer client
                )
            ),
            "invalid value for missing_plugin_behavior",
        ),
        (quality(tier=77), "invalid value for tier"),
        (
            quality(spec=QualityOfServiceSpec(queueing_budget=Duration(seconds=-1))),
            "invalid value for queueing_budget",
        ),
    ],
)
def test_invalid_values_are_refused(given: MatchingAttributes, text: str) -> None:
    assert message(given) == text
