"""The configuration of executions has levels: what one leaves unset is taken from the next.

The levels are described in executions.md#execution-configuration, their use for the defaults of attributes in
projects.md#platform-defaults. Every level is checked in the same way when it is written
(common.md#configuration-of-executions).
"""

from collections.abc import Iterable

from flyteidl.admin.execution_pb2 import ExecutionSpec
from flyteidl.admin.launch_plan_pb2 import LaunchPlanSpec
from flyteidl.admin.matchable_resource_pb2 import WorkflowExecutionConfig
from flyteidl.core.security_pb2 import Identity

from services.contracts.labels import check_annotations, check_labels, dns_subdomain_faults
from services.kit.errors import InvalidArgument

# These messages have the fields of the configuration in common, under the same names.
ConfigLevel = ExecutionSpec | LaunchPlanSpec | WorkflowExecutionConfig


# Environment variables, and secrets: pods have hundreds at most, and each name is checked.
MAX_ENTRIES = 10_000
_BAD_ENV = "a valid environment variable name must consist only of printable ASCII characters other than '='"


def check_config(level: ConfigLevel) -> None:
    """Raise InvalidArgument for a configuration with which Kubernetes would refuse the execution's objects."""
    check_labels(level.labels.values)
    check_annotations(level.annotations.values)
    for what, entries in (("envs", level.envs.values), ("secrets", level.security_context.secrets)):
        if len(entries) > MAX_ENTRIES:
            raise InvalidArgument(f"{what} cannot exceed {MAX_ENTRIES} entries")
    check_env_names(pair.key for pair in level.envs.values)
    if level.max_parallelism < 0:
        raise InvalidArgument("invalid value for max_parallelism")
    check_service_account(level.security_context.run_as.k8s_service_account)
    check_env_names(secret.env_var for secret in level.security_context.secrets if secret.env_var)
    if not isinstance(level, WorkflowExecutionConfig):
        check_service_account(level.auth_role.kubernetes_service_account)
    if isinstance(level, LaunchPlanSpec):
        check_service_account(level.auth.kubernetes_service_account)


def check_env_names(names: Iterable[str]) -> None:
    """Raise InvalidArgument unless Kubernetes, as of release 1.34, accepts each name of an environment variable."""
    for name in names:
        if not name:
            raise InvalidArgument("invalid environment variable name []: [environment variable name must be non-empty]")
        if "=" in name or not (name.isascii() and name.isprintable()):
            raise InvalidArgument(f"invalid environment variable name [{name}]: [{_BAD_ENV}]")


def check_service_account(name: str) -> None:
    """Raise InvalidArgument unless `name` is a valid name of a service account, or empty for none."""
    if name and (faults := dns_subdomain_faults(name)):
        raise InvalidArgument(f"invalid service account name [{name}]: [{' '.join(faults)}]")


def fill(config: WorkflowExecutionConfig, level: ConfigLevel) -> None:
    """Fill what `config` leaves unset from `level`."""
    config.max_parallelism = config.max_parallelism or level.max_parallelism
    config.overwrite_cache = config.overwrite_cache or level.overwrite_cache
    if not config.HasField("security_context") and _names_any(level.security_context.run_as):
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
    # An explicit false counts as set: presence matters, not the value.
    if not config.HasField("interruptible") and level.HasField("interruptible"):
        config.interruptible.CopyFrom(level.interruptible)


def _names_any(identity: Identity) -> bool:
    # The console sends an empty security context with every launch; it must not override the launch plan's.
    return bool(identity.iam_role or identity.k8s_service_account or identity.execution_identity)
