"""The configuration that executions run with has levels; what one leaves unsaid is said by the next.

projects.md 11 and executions.md 2.5 have the same rule.
"""

from flyteidl.admin.execution_pb2 import ExecutionSpec
from flyteidl.admin.launch_plan_pb2 import LaunchPlanSpec
from flyteidl.admin.matchable_resource_pb2 import WorkflowExecutionConfig
from flyteidl.core.security_pb2 import Identity

# They have the fields of the configuration in common, under the same names.
Level = ExecutionSpec | LaunchPlanSpec | WorkflowExecutionConfig


def fill(config: WorkflowExecutionConfig, level: Level) -> None:
    """Fill what `config` leaves unsaid with what `level` says."""
    config.max_parallelism = config.max_parallelism or level.max_parallelism
    config.overwrite_cache = config.overwrite_cache or level.overwrite_cache
    if not config.HasField("security_context") and _says_anything(level.security_context.run_as):
        config.security_context.CopyFrom(level.security_context)
    if not config.raw_output_data_config.output_location_prefix and level.raw_output_data_config.output_location_prefix:
        config.raw_output_data_config.CopyFrom(level.raw_output_data_config)
    # Maps and lists are taken whole: nothing is merged by key.
    if not config.labels.values and level.labels.values:
        config.labels.CopyFrom(level.labels)
    if not config.annotations.values and level.annotations.values:
        config.annotations.CopyFrom(level.annotations)
    if not config.envs.values and level.envs.values:
        config.envs.CopyFrom(level.envs)
    # An explicit false counts as said, so presence matters and not the value.
    if not config.HasField("interruptible") and level.HasField("interruptible"):
        config.interruptible.CopyFrom(level.interruptible)


def _says_anything(identity: Identity) -> bool:
    # The console sends an empty security context with every launch; it must not hide what the launch plan says.
    return bool(identity.iam_role or identity.k8s_service_account or identity.execution_identity)
