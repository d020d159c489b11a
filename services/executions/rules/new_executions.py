"""New executions, as they are stored first (executions.md#new-executions)."""

from dataclasses import dataclass
from datetime import datetime

from flyteidl.admin.common_pb2 import Notification
from flyteidl.admin.execution_pb2 import (
    EXECUTION_ACTIVE,
    ExecutionClosure,
    ExecutionCreateRequest,
    ExecutionSpec,
    ExecutionStateChangeDetails,
)
from flyteidl.admin.launch_plan_pb2 import LaunchPlan, LaunchPlanSpec
from flyteidl.admin.matchable_resource_pb2 import ListMatchableAttributesResponse, WorkflowExecutionConfig
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.core.identifier_pb2 import Identifier, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap

from services.kit.protobuf.size_limit import check_entity_size

# The largest value of `metadata.nesting`, a uint32.
_MAX_NESTING = 2**32 - 1


@dataclass(frozen=True)
class LaunchedEntity:
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
class LaunchedBy:
    """The caller of a launch: its identity, "" when unknown, and whether it may launch because it is an engine."""

    caller: str
    engine: bool = False

    def principal_with(self, parent: Parent | None) -> str:
        """Return the principal of an execution with this parent.

        A request may name any node as its parent. So the user of the parent's execution is the principal only if an
        engine launches it, and in `new_execution` if the caller is unknown
        (docs/trust.md#what-a-caller-may-claim-in-a-request).
        """
        return (parent.user if self.engine and parent else "") or self.caller


@dataclass(frozen=True)
class Origin:
    """The principal, the node that launches the execution, and the row id of the execution that it repeats, or 0.

    Without a principal it is the user of the parent's execution.
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
    entity: LaunchedEntity
    tags: frozenset[tuple[str, str]]
    created_at: datetime
    source_execution_id: int
    parent_node_execution_id: int


def new_execution(
    request: ExecutionCreateRequest,
    *,
    name: str,
    entity: LaunchedEntity,
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
    if entity.task_id is None:
        spec.max_parallelism = config.max_parallelism  # a single task shows the request's own
    closure = ExecutionClosure(
        phase=WorkflowExecution.UNDEFINED,
        workflow_id=entity.workflow_id,
        notifications=_notifications(request.spec, entity.launch_plan),
        state_change_details=ExecutionStateChangeDetails(state=EXECUTION_ACTIVE, principal=spec.metadata.principal),
    )
    for moment in (closure.created_at, closure.updated_at, closure.state_change_details.occurred_at):
        moment.FromDatetime(now)
    check_entity_size("execution", spec.ByteSize() + closure.ByteSize() + attributes.ByteSize())
    parent = origin.parent
    return NewExecution(
        id=WorkflowExecutionIdentifier(project=request.project, domain=request.domain, name=name),
        spec=spec,
        spec_inputs=request.spec.inputs if request.spec.HasField("inputs") else None,
        closure=closure,
        config=config,
        attributes=attributes,
        entity=entity,
        tags=frozenset([*request.spec.labels.values.items(), *((tag, "") for tag in request.spec.tags)]),
        created_at=now,
        # The execution that is repeated takes precedence over the parent's execution.
        source_execution_id=origin.source_execution_id or (parent.execution_id if parent else 0),
        parent_node_execution_id=parent.node_execution_id if parent else 0,
    )


def _stored_spec(
    given: ExecutionSpec, config: WorkflowExecutionConfig, origin: Origin, namespace_: str
) -> ExecutionSpec:
    """Return the spec as GetExecution shows it (executions.md#stored-spec), without its inputs.

    Labels, annotations and the like stay as sent although the engine uses the merged ones: the console's relaunch form
    reads them. `system_metadata` is empty: an empty cluster means the one in which the engine runs.
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


def _notifications(spec: ExecutionSpec, launch_plan: LaunchPlan) -> list[Notification]:
    if spec.notifications.notifications:
        return list(spec.notifications.notifications)
    if spec.disable_all:
        return []
    return list(launch_plan.spec.entity_metadata.notifications)
