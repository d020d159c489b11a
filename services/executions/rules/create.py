"""Checks of CreateExecution, in their order (executions.md#createexecution-steps).

Modules of their own have the rules for inputs, names and configuration.
"""

from collections.abc import Sequence

from flyteidl.admin.common_pb2 import Labels
from flyteidl.admin.execution_pb2 import ExecutionCreateRequest
from flyteidl.admin.launch_plan_pb2 import (
    CONCURRENCY_LIMIT_BEHAVIOR_SKIP,
    CONCURRENCY_LIMIT_BEHAVIOR_UNSPECIFIED,
    ConcurrencyPolicy,
)
from flyteidl.admin.matchable_resource_pb2 import WorkflowExecutionConfig
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.core.literals_pb2 import LiteralMap

from services.contracts.execution_config import check_config
from services.contracts.identifiers import MAX_FIELD_BYTES, check_complete
from services.contracts.notifications import check_notifications
from services.executions.rules.inputs import check_literals
from services.executions.rules.names import check_name
from services.executions.rules.new_executions import LaunchedEntity
from services.kit.errors import AlreadyExists, Internal, InvalidArgument

# Each tag has a row and an index entry; users set a handful.
MAX_TAGS = 1000


def inputs_of(request: ExecutionCreateRequest) -> LiteralMap:
    """Return the inputs; the console and old clients send them inside the spec."""
    return request.inputs if request.inputs.literals else request.spec.inputs


def check_project_domain_and_name(request: ExecutionCreateRequest) -> None:
    """Raise InvalidArgument unless project and domain are set and the name, if set, is valid."""
    if not request.project:
        raise InvalidArgument("missing project")
    if not request.domain:
        raise InvalidArgument("missing domain")
    if request.name:
        check_name(request.name)


def check_spec(request: ExecutionCreateRequest) -> None:
    """Raise InvalidArgument unless spec and inputs are valid (executions.md#createexecution-validation).

    The method table has refused values that some client cannot read (common.md#readable-values).
    """
    if not request.HasField("spec"):
        raise InvalidArgument("missing spec")
    spec = request.spec
    check_complete(spec.launch_plan if spec.HasField("launch_plan") else None)
    if spec.launch_plan.resource_type not in {ResourceType.LAUNCH_PLAN, ResourceType.TASK}:
        raise InvalidArgument(
            f"Invalid reference entity resource type [{spec.launch_plan.resource_type}], only [LAUNCH_PLAN, TASK] "
            "allowed"
        )
    check_literals(inputs_of(request))
    check_notifications(spec.notifications.notifications)
    check_config(spec)
    _check_tags(spec.tags)


def with_project_labels(config: WorkflowExecutionConfig, project_labels: Labels) -> WorkflowExecutionConfig:
    """Return `config` with those of the project's labels that it does not set itself."""
    labelled = WorkflowExecutionConfig()
    labelled.CopyFrom(config)
    for key, value in project_labels.values.items():
        if key not in labelled.labels.values:
            labelled.labels.values[key] = value
    return labelled


def check_entries(config: WorkflowExecutionConfig, max_labels: int, max_annotations: int) -> None:
    """Raise InvalidArgument for more labels or annotations than the maximum; 0 is no limit."""
    for what, number, most in (
        ("labels", len(config.labels.values), max_labels),
        ("annotations", len(config.annotations.values), max_annotations),
    ):
        if 0 < most < number:
            raise InvalidArgument(f"{what} has too many entries [{number} > {most}]")


def check_cluster_pool(requested: str, assigned: str) -> None:
    """Raise InvalidArgument if the request has another cluster pool than the one `assigned` to its project-domain."""
    if requested and assigned and requested != assigned:
        raise InvalidArgument(
            f"execution with cluster pool [{requested}] cannot run on cluster pool [{assigned}], which its project and "
            "domain are assigned to"
        )


def has_concurrency_limit(entity: LaunchedEntity) -> bool:
    """Return whether a concurrency policy limits executions of `entity` (executions.md#concurrency-policy).

    Raises:
        Internal: The policy has a behavior that this release does not know.
    """
    if entity.task_id is not None:
        return False
    policy = entity.launch_plan.spec.concurrency_policy
    if policy.behavior == CONCURRENCY_LIMIT_BEHAVIOR_SKIP:
        return True
    if policy.behavior == CONCURRENCY_LIMIT_BEHAVIOR_UNSPECIFIED:
        return False
    raise Internal(f"unsupported concurrency limit behavior {policy.behavior}")


def check_concurrency(policy: ConcurrencyPolicy, unfinished: int, launch_plan: str) -> None:
    """Raise AlreadyExists if `unfinished` executions reach the limit of `policy`."""
    if unfinished >= policy.max:
        raise AlreadyExists(
            f"concurrency limit ({policy.max}) reached for launch plan {launch_plan}; skipping execution"
        )


def _check_tags(tags: Sequence[str]) -> None:
    if len(tags) > MAX_TAGS:
        raise InvalidArgument(f"tags cannot exceed {MAX_TAGS} entries")
    for tag in tags:
        if len(tag.encode()) > MAX_FIELD_BYTES:
            raise InvalidArgument(f"invalid value for tags: [{tag}] exceeds {MAX_FIELD_BYTES} bytes")
        if "\0" in tag:
            raise InvalidArgument("invalid value for tags: a tag cannot hold the character 0")
