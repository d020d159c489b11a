"""Preparation of a resource: what the control plane decides about its execution (engine.md#preparation)."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache

from flyteidl.admin.execution_pb2 import ExecutionMetadata, ExecutionSpec
from flyteidl.admin.matchable_resource_pb2 import (
    PluginOverride,
    TaskResourceAttributes,
    TaskResourceSpec,
    WorkflowExecutionConfig,
)
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier

from services.contracts.quantities import canonical_quantity
from services.executions.rules.flyteworkflow.encoding import Json, plain

# The name in the definition, which the API server requires.
_KIND = "FlyteWorkflow"
# Keeps a deleted resource until flytepropeller has aborted its nodes.
_FINALIZER = "flyte.org/finalizer"
# The events that engine.md#event-sequences describes.
_EVENT_VERSION = 2
_NONE = "0"
# The platform's amounts and those of attributes are few; their conversion takes longer than the rest of a preparation.
_MOST_AMOUNTS = 1024


def prepare(
    resource: Json,
    *,
    execution: WorkflowExecutionIdentifier,
    spec: ExecutionSpec,
    config: WorkflowExecutionConfig,
    task_resources: TaskResourceAttributes,
    plugin_overrides: Sequence[PluginOverride],
    accepted_at: datetime,
    role_name_key: str = "",
    console_url: str = "",
) -> Json:
    """Return `resource` with what flytepropeller needs to run the execution; the given one stays unchanged.

    Args:
        resource: From `build_resource` or `Offloading.build`.
        execution: The execution.
        spec: Its stored spec, which names the execution that it recovers.
        config: The merged configuration, whose labels include those of the project.
        task_resources: The platform's task resources for the execution.
        plugin_overrides: Plugins by task type.
        accepted_at: When the execution was created.
        role_name_key: The annotation for the IAM role; "" for none, as Kubernetes accepts no empty key.
        console_url: The console's address in links to the execution; "" for none.
    """
    prepared = resource | {
        "kind": _KIND,
        "metadata": resource["metadata"] | _metadata(resource["metadata"]["labels"], config, role_name_key),
        **identity(execution, accepted_at),
        "workflowMeta": {"eventVersion": _EVENT_VERSION},
        "rawOutputDataConfig": plain(config.raw_output_data_config),
        "executionConfig": _execution_config(spec, config, task_resources, plugin_overrides),
    }
    if config.security_context.HasField("run_as"):
        prepared["securityContext"] = plain(config.security_context)
        if account := config.security_context.run_as.k8s_service_account:
            prepared["serviceAccountName"] = account
    if console_url:
        prepared["consoleUrl"] = console_url
    return prepared


def identity(execution: WorkflowExecutionIdentifier, accepted_at: datetime) -> Json:
    """Return the members of a prepared resource that distinguish it from every other."""
    return {"executionId": plain(execution), "acceptedAt": accepted_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}


def is_same_execution(one: Json, other: Json) -> bool:
    """Return whether two prepared resources, or their identities, are of the same launch, whatever else has changed.

    A resource of the same name can be of another control plane, or of an execution of this one before its database was
    lost.
    """
    return all(one.get(member) == other.get(member) for member in ("executionId", "acceptedAt"))


def _metadata(system_labels: Mapping[str, str], config: WorkflowExecutionConfig, role_name_key: str) -> Json:
    # System labels win: engines select by them, and a child execution has its parent's labels in its configuration.
    metadata: Json = {"labels": {**config.labels.values, **system_labels}, "finalizers": [_FINALIZER]}
    role = config.security_context.run_as.iam_role
    role_annotation = {role_name_key: role} if role and role_name_key else {}
    if annotations := role_annotation | dict(config.annotations.values):
        metadata["annotations"] = annotations
    return metadata


def _execution_config(
    spec: ExecutionSpec,
    config: WorkflowExecutionConfig,
    task_resources: TaskResourceAttributes,
    plugin_overrides: Sequence[PluginOverride],
) -> Json:
    recovers = spec.metadata.mode == ExecutionMetadata.RECOVERED
    return {
        "TaskPluginImpls": {
            override.task_type: {
                "PluginIDs": list(override.plugin_id),
                "MissingPluginBehavior": override.missing_plugin_behavior,
            }
            for override in plugin_overrides
        },
        "MaxParallelism": config.max_parallelism,
        "RecoveryExecution": plain(spec.metadata.reference_execution) if recovers else {},
        "TaskResources": {
            "Requests": _amounts(task_resources.defaults),
            "Limits": _amounts(task_resources.limits),
        },
        "Interruptible": config.interruptible.value if config.HasField("interruptible") else None,
        "OverwriteCache": config.overwrite_cache,
        # Of a key that comes twice the last value counts.
        "EnvironmentVariables": {pair.key: pair.value for pair in config.envs.values}
        if config.HasField("envs")
        else None,
    }


def _amounts(resources: TaskResourceSpec) -> Json:
    return {
        "CPU": _amount(resources.cpu),
        "Memory": _amount(resources.memory),
        "EphemeralStorage": _amount(resources.ephemeral_storage),
        "Storage": _NONE,
        "GPU": _amount(resources.gpu),
    }


@lru_cache(_MOST_AMOUNTS)
def _amount(text: str) -> str:
    """Return a quantity in its canonical form; "0" for none, and for one that cannot be read."""
    try:
        return canonical_quantity(text)
    except ValueError:
        return _NONE
