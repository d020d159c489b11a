"""What becomes an execution: the checks of CreateExecution in their order, and the row that is kept.

executions.md 2.1, 2.2, 2.6, 2.7, 2.10 and 2.12. Inputs, names and configuration have rules of their own beside this.
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

# A row each, with an index entry of its own; people use a handful.
MAX_TAGS = 1000
# What its field holds.
_DEEPEST = 2**32 - 1

_PLACEHOLDER = re.compile(r"\{\{\s*(project|domain)\s*\}\}")


@dataclass(frozen=True)
class Target:
    """What is launched. For a single task: its generated launch plan, and the task."""

    launch_plan: LaunchPlan
    workflow_id: Identifier
    task_id: Identifier | None = None

    @property
    def own_spec(self) -> LaunchPlanSpec | None:
        """What the launch plan says of its executions; one that was generated for a task says nothing (2.5)."""
        return None if self.task_id else self.launch_plan.spec


@dataclass(frozen=True)
class Parent:
    """The node execution that launches a child workflow, and what the child takes over from its execution."""

    node_execution_id: int
    execution_id: int
    user: str
    spec: ExecutionSpec


@dataclass(frozen=True)
class Origin:
    """Where an execution comes from: who asked, which node launched it, which execution it repeats (0 for none).

    Anybody may name any node as the parent, so its execution's user stands in only for a caller who is not known
    (docs/trust.md).
    """

    principal: str
    parent: Parent | None = None
    source_execution_id: int = 0


@dataclass(frozen=True)
class NewExecution:
    """An execution as it is kept first."""

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
    """Return the inputs, which the console and old clients send inside the spec (2.1, step 0)."""
    return request.inputs if request.inputs.literals else request.spec.inputs


def check_project_and_domain(request: ExecutionCreateRequest) -> None:
    """Raise InvalidArgument unless project and domain are named and the name, if any, is good (2.2, rules 1 to 5)."""
    if not request.project:
        raise InvalidArgument("missing project")
    if not request.domain:
        raise InvalidArgument("missing domain")
    if request.name:
        check_name(request.name)


def check_spec(request: ExecutionCreateRequest) -> None:
    """Raise InvalidArgument for what is wrong in the spec and the inputs (2.2, rules 9 to 15).

    The spec is part of every answer about the execution, so nothing may stand in it that JSON cannot tell: one such
    row would make a list unreadable over REST. Inputs beside it are answered by themselves, and clients that speak gRPC
    read them back whatever they are.
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
    """Add the project's labels to those of `config` that it does not set itself (2.7)."""
    complete = WorkflowExecutionConfig()
    complete.CopyFrom(config)
    for key, value in project_labels.values.items():
        if key not in complete.labels.values:
            complete.labels.values[key] = value
    return complete


def check_entries(config: WorkflowExecutionConfig, max_labels: int, max_annotations: int) -> None:
    """Raise InvalidArgument for more labels or annotations than configured, 0 meaning no limit (2.7)."""
    for what, found, most in (
        ("labels", len(config.labels.values), max_labels),
        ("annotations", len(config.annotations.values), max_annotations),
    ):
        if 0 < most < found:
            raise InvalidArgument(f"{what} has too many entries [{found} > {most}]")


def check_cluster_pool(requested: str, assigned: str) -> None:
    """Raise InvalidArgument when a request names another pool than the one `assigned` to its domain (2.7)."""
    if requested and assigned and requested != assigned:
        raise InvalidArgument(
            f"execution with cluster pool [{requested}] cannot run on cluster pool [{assigned}], which its project and "
            "domain are assigned to"
        )


def limited(target: Target) -> bool:
    """Whether executions of `target` are limited in number; a policy without a behavior never does (2.10)."""
    if target.task_id is not None:
        return False
    policy = target.launch_plan.spec.concurrency_policy
    if policy.behavior == CONCURRENCY_LIMIT_BEHAVIOR_SKIP:
        return True
    if policy.behavior == CONCURRENCY_LIMIT_BEHAVIOR_UNSPECIFIED:
        return False
    raise Internal(f"unsupported concurrency limit behavior {policy.behavior}")


def check_concurrency(policy: ConcurrencyPolicy, active: int, launch_plan: str) -> None:
    """Raise AlreadyExists when the limit of `policy` is reached by `active` executions (2.10)."""
    if active >= policy.max:
        raise AlreadyExists(
            f"concurrency limit ({policy.max}) reached for launch plan {launch_plan}; skipping execution"
        )


def namespace(template: str, project: str, domain: str) -> str:
    """Return the namespace in which a project and domain run."""
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
    """Make the execution that is kept: phase UNDEFINED, created at `now` (2.6, 2.12). Raises InvalidArgument."""
    spec = _stored_spec(request.spec, config, origin, namespace_)
    if target.task_id is None:
        spec.max_parallelism = config.max_parallelism  # of a single task the request's own is shown (2.5)
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
        # What is repeated goes before the execution that launched it.
        source_execution_id=origin.source_execution_id or (parent.execution_id if parent else 0),
        parent_node_execution_id=parent.node_execution_id if parent else 0,
    )


def _stored_spec(
    given: ExecutionSpec, config: WorkflowExecutionConfig, origin: Origin, namespace_: str
) -> ExecutionSpec:
    """Return the spec as GetExecution shows it, without its inputs.

    Labels, annotations and the like stay as sent although the merged ones run: the console's relaunch form reads them
    (2.5). The cluster is "", the engine's own.
    """
    spec = ExecutionSpec()
    spec.CopyFrom(given)
    spec.ClearField("inputs")
    spec.security_context.CopyFrom(config.security_context)
    metadata = spec.metadata
    metadata.principal = origin.principal or (origin.parent.user if origin.parent else "")
    metadata.ClearField("artifact_ids")
    if origin.parent is not None:
        metadata.nesting = min(origin.parent.spec.metadata.nesting + 1, _DEEPEST)
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
