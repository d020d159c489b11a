"""The checks of CreateExecution in their order, and the new execution (executions.md#createexecution).

Modules of their own have the rules for inputs, names and configuration.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from flyteidl.admin.common_pb2 import Labels, Notification
from flyteidl.admin.execution_pb2 import (
    EXECUTION_ACTIVE,
    ExecutionClosure,
    ExecutionCreateRequest,
    ExecutionSpec,
    ExecutionStateChangeDetails,
)
from flyteidl.admin.launch_plan_pb2 import (
    CONCURRENCY_LIMIT_BEHAVIOR_SKIP,
    CONCURRENCY_LIMIT_BEHAVIOR_UNSPECIFIED,
    ConcurrencyPolicy,
    LaunchPlan,
    LaunchPlanSpec,
)
from flyteidl.admin.matchable_resource_pb2 import ListMatchableAttributesResponse, WorkflowExecutionConfig
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.core.identifier_pb2 import Identifier, ResourceType, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap

from services.contracts.execution_config import check_config
from services.contracts.identifiers import MAX_FIELD_BYTES, check_complete
from services.contracts.notifications import check_notifications
from services.executions.rules.inputs import check_literals
from services.executions.rules.names import check_name
from services.kit.errors import AlreadyExists, Internal, InvalidArgument
from services.kit.protobuf.size_limit import check_receivable

# Each tag has a row and an index entry; users set a handful.
MAX_TAGS = 1000
# The largest value of `metadata.nesting`, a uint32.
_MAX_NESTING = 2**32 - 1

_PLACEHOLDER = re.compile(r"\{\{\s*(project|domain)\s*\}\}")


@dataclass(frozen=True)
class Target:
    """The launched entity. A single task has its generated launch plan, and the id of the task."""

    launch_plan: LaunchPlan
    workflow_id: Identifier
    task_id: Identifier | None = None

    @property
    def own_spec(self) -> LaunchPlanSpec | None:
        """The spec of the launch plan; None for a generated one, which is no level of the configuration."""
        return None if self.task_id else self.launch_plan.spec


@dataclass(frozen=True)
class Parent:
    """The node execution that launches a child workflow, and what the child inherits from its execution."""

    node_execution_id: int
    execution_id: int
    user: str
    spec: ExecutionSpec


@dataclass(frozen=True)
class Origin:
    """The caller, the node that launches the execution, and the row id of the execution that it repeats, 0 for none.

    A request may have any node as the parent, so its execution's user counts only for an unknown caller
    (docs/trust.md).
    """

    principal: str
    parent: Parent | None = None
    source_execution_id: int = 0


@dataclass(frozen=True)
class NewExecution:
    """An execution as it is first stored."""

    id: WorkflowExecutionIdentifier
    spec: ExecutionSpec
    spec_inputs: LiteralMap | None
    closure: ExecutionClosure
    config: WorkflowExecutionConfig
    attributes: ListMatchableAttributesResponse
    target: Target
    tags: frozenset[tuple[str, str]]
    created_at: datetime
    source_execution_id: int
    parent_node_execution_id: int


def inputs_of(request: ExecutionCreateRequest) -> LiteralMap:
    """Return the inputs; the console and old clients send them inside the spec."""
    return request.inputs if request.inputs.literals else request.spec.inputs


def check_project_and_domain(request: ExecutionCreateRequest) -> None:
    """Raise InvalidArgument unless project and domain are set and the name, if set, is valid."""
    if not request.project:
        raise InvalidArgument("missing project")
    if not request.domain:
        raise InvalidArgument("missing domain")
    if request.name:
        check_name(request.name)


def check_spec(request: ExecutionCreateRequest) -> None:
    """Raise InvalidArgument unless spec and inputs are valid (executions.md#createexecution-validation).

    Every response about the execution contains the spec, so it must have no value that JSON cannot represent: one such
    row would make a list unreadable over REST. Inputs outside the spec may have such values: they are in responses of
    their own, which gRPC clients can read.
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
    complete = WorkflowExecutionConfig()
    complete.CopyFrom(config)
    for key, value in project_labels.values.items():
        if key not in complete.labels.values:
            complete.labels.values[key] = value
    return complete


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


def limited(target: Target) -> bool:
    """Return whether a concurrency policy limits executions of `target` (executions.md#concurrency-policy)."""
    if target.task_id is not None:
        return False
    policy = target.launch_plan.spec.concurrency_policy
    if policy.behavior == CONCURRENCY_LIMIT_BEHAVIOR_SKIP:
        return True
    if policy.behavior == CONCURRENCY_LIMIT_BEHAVIOR_UNSPECIFIED:
        return False
    raise Internal(f"unsupported concurrency limit behavior {policy.behavior}")


def check_concurrency(policy: ConcurrencyPolicy, active: int, launch_plan: str) -> None:
    """Raise AlreadyExists if `active` executions reach the limit of `policy`."""
    if active >= policy.max:
        raise AlreadyExists(
            f"concurrency limit ({policy.max}) reached for launch plan {launch_plan}; skipping execution"
        )


def namespace(template: str, project: str, domain: str) -> str:
    """Return the Kubernetes namespace of a project-domain."""
    values = {"project": project, "domain": domain}
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def new_execution(
    request: ExecutionCreateRequest,
    *,
    name: str,
    target: Target,
    config: WorkflowExecutionConfig,
    attributes: ListMatchableAttributesResponse,
    origin: Origin,
    now: datetime,
    namespace_: str,
) -> NewExecution:
    """Return the execution to store: phase UNDEFINED, created at `now` (executions.md#new-executions).

    Raises InvalidArgument when it is larger than clients can receive.
    """
    spec = _stored_spec(request.spec, config, origin, namespace_)
    if target.task_id is None:
        spec.max_parallelism = config.max_parallelism  # a single task shows the request's own
    closure = ExecutionClosure(
        phase=WorkflowExecution.UNDEFINED,
        workflow_id=target.workflow_id,
        notifications=_notifications(request.spec, target.launch_plan),
        state_change_details=ExecutionStateChangeDetails(state=EXECUTION_ACTIVE, principal=spec.metadata.principal),
    )
    for moment in (closure.created_at, closure.updated_at, closure.state_change_details.occurred_at):
        moment.FromDatetime(now)
    check_receivable("execution", spec.ByteSize() + closure.ByteSize() + attributes.ByteSize())
    parent = origin.parent
    return NewExecution(
        id=WorkflowExecutionIdentifier(project=request.project, domain=request.domain, name=name),
        spec=spec,
        spec_inputs=request.spec.inputs if request.spec.HasField("inputs") else None,
        closure=closure,
        config=config,
        attributes=attributes,
        target=target,
        tags=frozenset([*request.spec.labels.values.items(), *((tag, "") for tag in request.spec.tags)]),
        created_at=now,
        # The repeated execution goes before the parent's.
        source_execution_id=origin.source_execution_id or (parent.execution_id if parent else 0),
        parent_node_execution_id=parent.node_execution_id if parent else 0,
    )


def _stored_spec(
    given: ExecutionSpec, config: WorkflowExecutionConfig, origin: Origin, namespace_: str
) -> ExecutionSpec:
    """Return the spec as GetExecution shows it (executions.md#stored-spec), without its inputs.

    Labels, annotations and the like stay as sent although the engine uses the merged ones: the console's relaunch form
    reads them. The cluster is "", the engine's own.
    """
    spec = ExecutionSpec()
    spec.CopyFrom(given)
    spec.ClearField("inputs")
    spec.security_context.CopyFrom(config.security_context)
    metadata = spec.metadata
    metadata.principal = origin.principal or (origin.parent.user if origin.parent else "")
    metadata.ClearField("artifact_ids")
    if origin.parent is not None:
        metadata.nesting = min(origin.parent.spec.metadata.nesting + 1, _MAX_NESTING)
        if origin.parent.spec.HasField("execution_cluster_label"):
            spec.execution_cluster_label.CopyFrom(origin.parent.spec.execution_cluster_label)
    metadata.system_metadata.Clear()
    metadata.system_metadata.namespace = namespace_
    return spec


def _check_tags(tags: Sequence[str]) -> None:
    if len(tags) > MAX_TAGS:
        raise InvalidArgument(f"tags cannot exceed {MAX_TAGS} entries")
    for tag in tags:
        if len(tag.encode()) > MAX_FIELD_BYTES:
            raise InvalidArgument(f"invalid value for tags: [{tag}] exceeds {MAX_FIELD_BYTES} bytes")
        if "\0" in tag:
            raise InvalidArgument("invalid value for tags: a tag cannot hold the character 0")


def _notifications(spec: ExecutionSpec, launch_plan: LaunchPlan) -> list[Notification]:
    if spec.notifications.notifications:
        return list(spec.notifications.notifications)
    if spec.disable_all:
        return []
    return list(launch_plan.spec.entity_metadata.notifications)
