"""The configuration that an execution runs with (executions.md#execution-configuration).

Each field is from the first level that sets it. The levels are, in order: the request, the launch plan, attributes from
the most specific on, the deprecated roles, the default configuration in the settings.
"""

from collections.abc import Sequence

from flyteidl.admin.common_pb2 import Annotations, AuthRole, Envs, Labels, RawOutputDataConfig
from flyteidl.admin.execution_pb2 import ExecutionSpec
from flyteidl.admin.launch_plan_pb2 import LaunchPlanSpec
from flyteidl.admin.matchable_resource_pb2 import WorkflowExecutionConfig
from flyteidl.core.literals_pb2 import KeyValuePair
from flyteidl.core.security_pb2 import Identity, SecurityContext
from google.protobuf.wrappers_pb2 import BoolValue

from services.contracts.execution_config import fill
from services.executions.config import Settings


def default_config_of(settings: Settings) -> WorkflowExecutionConfig:
    """Return the default configuration, the last level."""
    run_as = Identity(k8s_service_account=settings.k8s_service_account, iam_role=settings.assumable_iam_role)
    return WorkflowExecutionConfig(
        max_parallelism=settings.max_parallelism,
        security_context=SecurityContext(run_as=run_as),
        raw_output_data_config=RawOutputDataConfig(output_location_prefix=settings.output_location_prefix),
        labels=Labels(values=settings.labels),
        annotations=Annotations(values=settings.annotations),
        envs=Envs(values=[KeyValuePair(key=key, value=value) for key, value in sorted(settings.envs.items())]),
        # Unset instead of false, which is the engine's default.
        interruptible=BoolValue(value=True) if settings.interruptible else None,
        overwrite_cache=settings.overwrite_cache,
    )


def merged(
    request: ExecutionSpec,
    launch_plan: LaunchPlanSpec | None,
    attributes: Sequence[WorkflowExecutionConfig],
    default_config: WorkflowExecutionConfig,
    principal: str,
) -> WorkflowExecutionConfig:
    """Merge all levels.

    Args:
        request: The spec of the launch.
        launch_plan: None for a single task.
        attributes: The levels of attributes, from specific to general.
        default_config: The last level, from `default_config_of`.
        principal: The caller; empty when unknown.

    Returns:
        The merged configuration, always with `security_context.run_as`. Its identity is `principal`; the one in a level
        counts only for an unknown caller, as a request may contain any identity
        (docs/trust.md#what-a-caller-may-claim-in-a-request).
    """
    config = WorkflowExecutionConfig()
    fill(config, request)
    if launch_plan is not None:
        fill(config, launch_plan)
    for level in attributes:
        fill(config, level)
    if not config.HasField("security_context"):
        role = _role(request, launch_plan)
        if role.assumable_iam_role or role.kubernetes_service_account:
            config.security_context.run_as.iam_role = role.assumable_iam_role
            config.security_context.run_as.k8s_service_account = role.kubernetes_service_account
    fill(config, default_config)
    run_as = config.security_context.run_as
    run_as.SetInParent()
    run_as.execution_identity = principal or run_as.execution_identity
    return config


def _role(request: ExecutionSpec, launch_plan: LaunchPlanSpec | None) -> AuthRole:
    if request.HasField("auth_role"):
        return request.auth_role
    if launch_plan is None:
        return AuthRole()
    if launch_plan.HasField("auth_role"):
        return launch_plan.auth_role
    if launch_plan.HasField("auth"):
        auth = launch_plan.auth
        return AuthRole(
            assumable_iam_role=auth.assumable_iam_role, kubernetes_service_account=auth.kubernetes_service_account
        )
    return AuthRole(assumable_iam_role=launch_plan.role)
