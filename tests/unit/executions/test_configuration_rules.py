"""The merge of an execution's configuration (executions.md#execution-configuration)."""

from typing import Any

import pytest
from flyteidl.admin.common_pb2 import Annotations, AuthRole, Envs, Labels, RawOutputDataConfig
from flyteidl.admin.execution_pb2 import ExecutionSpec
from flyteidl.admin.launch_plan_pb2 import Auth, LaunchPlanSpec
from flyteidl.admin.matchable_resource_pb2 import WorkflowExecutionConfig
from flyteidl.core.literals_pb2 import KeyValuePair
from flyteidl.core.security_pb2 import Identity, SecurityContext
from google.protobuf.wrappers_pb2 import BoolValue
from pydantic import ValidationError

from services.contracts.execution_config import ConfigLevel
from services.executions.config import Settings
from services.executions.rules.configuration import default_config_of, merged

SETTINGS = Settings(signing_key="k")


def run_as(account: str) -> SecurityContext:
    return SecurityContext(run_as=Identity(k8s_service_account=account))


def merge(
    request: ExecutionSpec | None = None,
    launch_plan: LaunchPlanSpec | None = None,
    *attributes: WorkflowExecutionConfig,
    settings: Settings = SETTINGS,
    principal: str = "",
) -> WorkflowExecutionConfig:
    return merged(request or ExecutionSpec(), launch_plan, attributes, default_config_of(settings), principal)


def fill(level: ConfigLevel, word: str, number: int) -> None:
    level.max_parallelism = number
    level.security_context.CopyFrom(run_as(word))
    level.raw_output_data_config.CopyFrom(RawOutputDataConfig(output_location_prefix=word))
    level.labels.CopyFrom(Labels(values={word: ""}))
    level.annotations.CopyFrom(Annotations(values={word: ""}))
    level.envs.CopyFrom(Envs(values=[KeyValuePair(key=word)]))
    level.interruptible.CopyFrom(BoolValue(value=number % 2 == 0))


def test_first_level_with_a_value_wins_whole() -> None:
    levels: list[ConfigLevel] = [
        ExecutionSpec(),
        LaunchPlanSpec(),
        WorkflowExecutionConfig(),
        WorkflowExecutionConfig(),
    ]
    for number in range(len(levels) - 1, -1, -1):
        fill(levels[number], f"level{number}", number + 1)
        expected = WorkflowExecutionConfig()
        fill(expected, f"level{number}", number + 1)
        request, launch_plan, specific, project = levels
        assert isinstance(request, ExecutionSpec)
        assert isinstance(launch_plan, LaunchPlanSpec)
        assert isinstance(specific, WorkflowExecutionConfig)
        assert isinstance(project, WorkflowExecutionConfig)
        assert merge(request, launch_plan, specific, project) == expected


def test_settings_come_last() -> None:
    config = merge(
        settings=Settings(
            signing_key="k",
            max_parallelism=3,
            k8s_service_account="robot",
            labels={"a": "b"},
            envs={"X": "1"},
            interruptible=True,
            output_location_prefix="s3://raw",
        )
    )
    assert config.max_parallelism == 3
    assert config.security_context.run_as.k8s_service_account == "robot"
    assert config.labels.values == {"a": "b"}
    assert list(config.envs.values) == [KeyValuePair(key="X", value="1")]
    assert config.interruptible.value
    assert config.raw_output_data_config.output_location_prefix == "s3://raw"


def test_defaults_hold_without_any_level() -> None:
    config = merge()
    assert config.max_parallelism == 25
    assert not config.HasField("interruptible")
    assert config.security_context.HasField("run_as")


def test_empty_security_context_is_no_value() -> None:
    empty = ExecutionSpec(security_context=SecurityContext(run_as=Identity()))
    config = merge(empty, LaunchPlanSpec(security_context=run_as("robot")))
    assert config.security_context.run_as.k8s_service_account == "robot"


def test_explicit_false_is_a_value() -> None:
    request = ExecutionSpec(interruptible=BoolValue(value=False))
    config = merge(request, LaunchPlanSpec(interruptible=BoolValue(value=True)))
    assert config.HasField("interruptible")
    assert not config.interruptible.value


def test_any_level_can_overwrite_the_cache() -> None:
    assert merge(ExecutionSpec(overwrite_cache=False), LaunchPlanSpec(overwrite_cache=True)).overwrite_cache


def test_deprecated_roles_count_before_the_settings_and_after_all_else() -> None:
    role = AuthRole(kubernetes_service_account="old")
    settings = Settings(signing_key="k", k8s_service_account="platform")

    def account(request: ExecutionSpec, launch_plan: LaunchPlanSpec | None = None) -> str:
        name: str = merge(request, launch_plan, settings=settings).security_context.run_as.k8s_service_account
        return name

    assert account(ExecutionSpec(auth_role=role)) == "old"
    assert account(ExecutionSpec(auth_role=role, security_context=run_as("new"))) == "new"
    assert account(ExecutionSpec(), LaunchPlanSpec(auth_role=role)) == "old"
    assert account(ExecutionSpec(), LaunchPlanSpec(auth=Auth(kubernetes_service_account="older"))) == "older"
    assert account(ExecutionSpec()) == "platform"
    assert merge(None, LaunchPlanSpec(role="arn")).security_context.run_as.iam_role == "arn"


def test_known_caller_is_the_identity_in_any_case() -> None:
    assert merge(principal="ann").security_context.run_as.execution_identity == "ann"
    named = ExecutionSpec(security_context=SecurityContext(run_as=Identity(execution_identity="bob")))
    assert merge(named, principal="ann").security_context.run_as.execution_identity == "ann"
    assert merge(named).security_context.run_as.execution_identity == "bob"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"labels": {"a b": "c"}}, r"invalid label key \[a b\]"),
        ({"annotations": {"a b": "c"}}, r"invalid annotation key \[a b\]"),
        ({"envs": {"A=B": "c"}}, r"invalid environment variable name \[A=B\]"),
        ({"k8s_service_account": "Not Good"}, r"invalid service account name \[Not Good\]"),
        ({"max_parallelism": 2**31}, "max_parallelism"),
    ],
)
def test_invalid_settings_are_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Settings(signing_key="k", **given)
