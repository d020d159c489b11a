"""Requests to the executions service, and a registry with the launch plans of a test."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.admin.execution_pb2 import ExecutionCreateRequest, ExecutionSpec
from flyteidl.admin.launch_plan_pb2 import LaunchPlan, LaunchPlanClosure, LaunchPlanSpec
from flyteidl.core.identifier_pb2 import (
    Identifier,
    NodeExecutionIdentifier,
    ResourceType,
    TaskExecutionIdentifier,
    WorkflowExecutionIdentifier,
)
from flyteidl.core.interface_pb2 import Parameter, ParameterMap, Variable
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.types_pb2 import LiteralType

from services.contracts.identifiers import identifier_text
from services.contracts.registry import GET_LAUNCH_PLAN, GET_TASK_LAUNCH_PLAN
from services.kit.errors import NotFound
from services.kit.messaging.bus import Bus
from tests.support.entities import DOMAIN, INTEGER, PROJECT, STRING, identifier, integer, literals


def required(kind: LiteralType) -> Parameter:
    """Return a required input."""
    return Parameter(var=Variable(type=kind), required=True)


def registered_launch_plan(name: str = "lp", **spec: Any) -> LaunchPlan:
    """Return a launch plan with a required input `a`, a default for `b` (integers) and a fixed input `c` (string)."""
    expected = {"a": required(INTEGER), "b": Parameter(var=Variable(type=INTEGER), default=integer(7))}
    return LaunchPlan(
        id=identifier(ResourceType.LAUNCH_PLAN, name),
        spec=LaunchPlanSpec(
            workflow_id=identifier(ResourceType.WORKFLOW, f"wf_{name}"), fixed_inputs=literals(c="fixed"), **spec
        ),
        closure=LaunchPlanClosure(expected_inputs=ParameterMap(parameters=expected)),
    )


def generated_launch_plan(task: str) -> LaunchPlan:
    """Return the launch plan that the registry generates for a task with the required input `a` (string)."""
    return LaunchPlan(
        id=identifier(ResourceType.LAUNCH_PLAN, f".flytegen.{task}"),
        spec=LaunchPlanSpec(workflow_id=identifier(ResourceType.WORKFLOW, task)),
        closure=LaunchPlanClosure(expected_inputs=ParameterMap(parameters={"a": required(STRING)})),
    )


@asynccontextmanager
async def registry_with(nats_url: str, *launch_plans: LaunchPlan) -> AsyncIterator[Bus]:
    """Serve the registry's service requests for launch plans until the end of the block; yield its bus."""
    bus = await Bus.connect(nats_url, "registry")

    async def get_launch_plan(request: ObjectGetRequest) -> LaunchPlan:
        return _find(request.id, request.id.name, launch_plans)

    async def get_task_launch_plan(request: ObjectGetRequest) -> LaunchPlan:
        return _find(request.id, f".flytegen.{request.id.name}", launch_plans)

    await bus.serve(GET_LAUNCH_PLAN, get_launch_plan)
    await bus.serve(GET_TASK_LAUNCH_PLAN, get_task_launch_plan)
    try:
        yield bus
    finally:
        await bus.close()


def _find(requested: Identifier, name: str, launch_plans: Iterable[LaunchPlan]) -> LaunchPlan:
    for launch_plan in launch_plans:
        if launch_plan.id.name == name and launch_plan.id.version == requested.version:
            return launch_plan
    raise NotFound(f"missing entity of type launch plan with identifier {identifier_text(requested)}")


def launch(
    name: str = "",
    inputs: LiteralMap | None = None,
    launches: Identifier | None = None,
    project: str = PROJECT,
    **spec: Any,
) -> ExecutionCreateRequest:
    """Return a launch of the launch plan `lp` with the input `a`, unless given others."""
    return ExecutionCreateRequest(
        project=project,
        domain=DOMAIN,
        name=name,
        inputs=literals(a=1) if inputs is None else inputs,
        spec=ExecutionSpec(launch_plan=launches or identifier(ResourceType.LAUNCH_PLAN, "lp"), **spec),
    )


def execution_id(name: str, project: str = PROJECT) -> WorkflowExecutionIdentifier:
    """Return the id of an execution."""
    return WorkflowExecutionIdentifier(project=project, domain=DOMAIN, name=name)


def node_id(execution: str, node: str) -> NodeExecutionIdentifier:
    """Return the id of a node execution."""
    return NodeExecutionIdentifier(node_id=node, execution_id=execution_id(execution))


def task_id(execution: str, node: str, task: str = "t", attempt: int = 0) -> TaskExecutionIdentifier:
    """Return the id of a task execution."""
    return TaskExecutionIdentifier(
        task_id=identifier(ResourceType.TASK, task), node_execution_id=node_id(execution, node), retry_attempt=attempt
    )
