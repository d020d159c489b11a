"""Preparation: what the control plane adds to a resource (engine.md#preparation)."""

import copy
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from flyteidl.admin.common_pb2 import Annotations, Envs, Labels, RawOutputDataConfig
from flyteidl.admin.execution_pb2 import ExecutionMetadata, ExecutionSpec
from flyteidl.admin.matchable_resource_pb2 import (
    PluginOverride,
    TaskResourceAttributes,
    TaskResourceSpec,
    WorkflowExecutionConfig,
)
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import KeyValuePair, LiteralMap
from flyteidl.core.security_pb2 import Identity, OAuth2Client, OAuth2TokenRequest, Secret, SecurityContext
from google.protobuf.wrappers_pb2 import BoolValue

from services.executions.rules.flyteworkflow import build_resource, identity, is_same_execution, prepare
from tests.unit.executions.flyteworkflow.building import EXECUTION, closure_of, task_node

ACCEPTED_AT = datetime(2024, 1, 2, 3, 4, 5, 678_900, UTC)
ZEROS = {"CPU": "0", "Memory": "0", "EphemeralStorage": "0", "Storage": "0", "GPU": "0"}


def prepared(
    config: WorkflowExecutionConfig | None = None,
    *,
    spec: ExecutionSpec | None = None,
    task_resources: TaskResourceAttributes | None = None,
    plugins: Sequence[PluginOverride] = (),
    accepted_at: datetime = ACCEPTED_AT,
    execution: WorkflowExecutionIdentifier = EXECUTION,
    role_name_key: str = "",
    console_url: str = "",
) -> dict[str, Any]:
    """Return a small resource, prepared; check that the one before stays as it was."""
    resource = build_resource(closure_of(task_node()), LiteralMap(), execution, "p-d")
    before = copy.deepcopy(resource)
    result = prepare(
        resource,
        execution=execution,
        spec=spec or ExecutionSpec(),
        config=config or WorkflowExecutionConfig(),
        task_resources=task_resources or TaskResourceAttributes(),
        plugin_overrides=plugins,
        accepted_at=accepted_at,
        role_name_key=role_name_key,
        console_url=console_url,
    )
    assert resource == before
    return result


def test_preparation_adds_what_every_execution_has() -> None:
    resource = build_resource(closure_of(task_node()), LiteralMap(), EXECUTION, "p-d")
    assert prepared() == resource | {
        "kind": "FlyteWorkflow",
        "metadata": resource["metadata"] | {"finalizers": ["flyte.org/finalizer"]},
        "executionId": {"project": "p", "domain": "d", "name": "exec"},
        "workflowMeta": {"eventVersion": 2},
        "acceptedAt": "2024-01-02T03:04:05Z",
        "executionConfig": {
            "TaskPluginImpls": {},
            "MaxParallelism": 0,
            "RecoveryExecution": {},
            "TaskResources": {"Requests": ZEROS, "Limits": ZEROS},
            "Interruptible": None,
            "OverwriteCache": False,
            "EnvironmentVariables": None,
        },
    }


def test_execution_id_has_the_organisation_if_there_is_one() -> None:
    execution = WorkflowExecutionIdentifier(project="p", domain="d", name="exec", org="o")
    assert prepared(execution=execution)["executionId"] == {"project": "p", "domain": "d", "name": "exec", "org": "o"}


def test_time_of_acceptance_is_utc_in_whole_seconds() -> None:
    east = ACCEPTED_AT.astimezone(timezone(timedelta(hours=5)))
    assert prepared(accepted_at=east)["acceptedAt"] == "2024-01-02T03:04:05Z"


def test_security_context_is_plain_and_names_the_service_account() -> None:
    client = OAuth2Client(client_id="id", client_secret=Secret(group="g", key="k"))
    context = SecurityContext(
        run_as=Identity(
            iam_role="role", k8s_service_account="account", oauth2_client=client, execution_identity="someone"
        ),
        secrets=[Secret(group="g", group_version="1", key="k", mount_requirement=Secret.FILE, env_var="K"), Secret()],
        tokens=[OAuth2TokenRequest(name="t", client=client, token_endpoint="https://t")],
    )
    resource = prepared(WorkflowExecutionConfig(security_context=context))
    plain_client = {"client_id": "id", "client_secret": {"group": "g", "key": "k"}}
    assert resource["securityContext"] == {
        "run_as": {
            "iam_role": "role",
            "k8s_service_account": "account",
            "oauth2_client": plain_client,
            "execution_identity": "someone",
        },
        "secrets": [{"group": "g", "group_version": "1", "key": "k", "mount_requirement": 2, "env_var": "K"}, {}],
        "tokens": [{"name": "t", "client": plain_client, "token_endpoint": "https://t"}],
    }
    assert resource["serviceAccountName"] == "account"


def test_security_context_without_an_identity_is_left_out() -> None:
    resource = prepared(WorkflowExecutionConfig(security_context=SecurityContext(secrets=[Secret(key="k")])))
    assert resource["securityContext"] == {}
    assert "serviceAccountName" not in resource


@pytest.mark.parametrize(
    ("role", "key", "annotations", "expected"),
    [
        ("", "iam", {}, None),
        ("role", "", {}, None),
        ("role", "iam", {}, {"iam": "role"}),
        ("role", "iam", {"a": "1"}, {"iam": "role", "a": "1"}),
        ("role", "iam", {"iam": "own"}, {"iam": "own"}),
        ("role", "", {"a": "1"}, {"a": "1"}),
    ],
)
def test_annotations_are_the_role_and_those_of_the_execution(
    role: str, key: str, annotations: dict[str, str], expected: dict[str, str] | None
) -> None:
    config = WorkflowExecutionConfig(
        security_context=SecurityContext(run_as=Identity(iam_role=role)), annotations=Annotations(values=annotations)
    )
    assert prepared(config, role_name_key=key)["metadata"].get("annotations") == expected


def test_labels_of_the_execution_are_added_and_do_not_replace_those_of_the_system() -> None:
    system = prepared()["metadata"]["labels"]
    inherited = dict.fromkeys(system, "of-the-parent")
    resource = prepared(WorkflowExecutionConfig(labels=Labels(values={"team": "a", **inherited})))
    assert resource["metadata"]["labels"] == {"team": "a", **system}


def test_configuration_is_passed_on() -> None:
    pairs = [KeyValuePair(key="A", value="1"), KeyValuePair(key="B", value="2"), KeyValuePair(key="A", value="3")]
    config = WorkflowExecutionConfig(
        max_parallelism=7,
        overwrite_cache=True,
        interruptible=BoolValue(value=False),
        envs=Envs(values=pairs),
        raw_output_data_config=RawOutputDataConfig(output_location_prefix="s3://raw"),
    )
    resource = prepared(config)
    assert resource["executionConfig"] == {
        "TaskPluginImpls": {},
        "MaxParallelism": 7,
        "RecoveryExecution": {},
        "TaskResources": {"Requests": ZEROS, "Limits": ZEROS},
        "Interruptible": False,
        "OverwriteCache": True,
        "EnvironmentVariables": {"A": "3", "B": "2"},
    }
    assert resource["rawOutputDataConfig"] == {"output_location_prefix": "s3://raw"}


def test_plugin_overrides_are_written_by_task_type() -> None:
    plugins = [
        PluginOverride(task_type="spark", plugin_id=["a", "b"], missing_plugin_behavior=PluginOverride.USE_DEFAULT),
        PluginOverride(task_type="ray", plugin_id=["c"]),
    ]
    assert prepared(plugins=plugins)["executionConfig"]["TaskPluginImpls"] == {
        "spark": {"PluginIDs": ["a", "b"], "MissingPluginBehavior": 1},
        "ray": {"PluginIDs": ["c"], "MissingPluginBehavior": 0},
    }


def test_task_resources_are_canonical_and_zero_where_there_are_none() -> None:
    resources = TaskResourceAttributes(
        defaults=TaskResourceSpec(cpu="0.5", memory="1024Mi", gpu="0Gi", storage="5Gi"),
        limits=TaskResourceSpec(cpu="many", ephemeral_storage="2e9", gpu="1"),
    )
    assert prepared(task_resources=resources)["executionConfig"]["TaskResources"] == {
        "Requests": {**ZEROS, "CPU": "500m", "Memory": "1Gi"},
        "Limits": {**ZEROS, "EphemeralStorage": "2e9", "GPU": "1"},
    }


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (ExecutionMetadata.RECOVERED, {"project": "p", "domain": "d", "name": "before"}),
        (ExecutionMetadata.RELAUNCH, {}),
        (ExecutionMetadata.MANUAL, {}),
    ],
)
def test_only_a_recovery_names_the_execution_that_it_recovers(
    mode: ExecutionMetadata.ExecutionMode, expected: dict[str, str]
) -> None:
    before = WorkflowExecutionIdentifier(project="p", domain="d", name="before")
    spec = ExecutionSpec(metadata=ExecutionMetadata(mode=mode, reference_execution=before))
    assert prepared(spec=spec)["executionConfig"]["RecoveryExecution"] == expected


def test_console_url_is_written_if_there_is_one() -> None:
    assert prepared(console_url="https://console")["consoleUrl"] == "https://console"
    assert "consoleUrl" not in prepared()


def test_resource_is_the_same_execution_whatever_the_engine_wrote_into_it() -> None:
    ours = prepared()
    found = copy.deepcopy(ours)
    found["status"] = {"phase": 4}
    found["metadata"] |= {"labels": {"termination-status": "terminated"}, "finalizers": []}
    assert is_same_execution(found, ours)
    assert is_same_execution(found, identity(EXECUTION, ACCEPTED_AT))


@pytest.mark.parametrize("change", [{"executionId": {}}, {"acceptedAt": "2024-01-02T03:04:06Z"}])
def test_resource_of_another_launch_or_control_plane_is_not_the_same(change: dict[str, object]) -> None:
    assert not is_same_execution(prepared() | change, prepared())


def test_resource_without_an_identity_is_not_the_same() -> None:
    assert not is_same_execution({"metadata": {"name": "exec"}}, prepared())
