"""An execution that the engine has taken to SUCCEEDED, for tests that read."""

from dataclasses import dataclass

from flyteidl.admin.execution_pb2 import ExecutionCreateRequest, ExecutionSpec
from flyteidl.core.identifier_pb2 import ResourceType, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.support import entities
from tests.support.engine import TaskFunction
from tests.support.entities import DOMAIN, INTEGER, PROJECT, STRING, identifier, promise, task_node

TASKS: dict[str, TaskFunction] = {
    "stack.double": lambda a: {"o0": a * 2},
    "stack.describe": lambda n, unit: {"o0": f"{n} {unit}"},
}


@dataclass(frozen=True)
class Ended:
    """What was launched, and what came of it."""

    id: WorkflowExecutionIdentifier
    nodes: tuple[str, ...]


async def register(admin: AdminServiceStub) -> None:
    """Register two tasks, a workflow of both with a default input, and a launch plan with a fixed one."""
    await admin.CreateTask(entities.task("stack.double", {"a": INTEGER}, {"o0": INTEGER}))
    await admin.CreateTask(entities.task("stack.describe", {"n": INTEGER, "unit": STRING}, {"o0": STRING}))
    nodes = [
        task_node("n0", "stack.double", promise("a", "", "count")),
        task_node("n1", "stack.describe", promise("n", "n0", "o0"), promise("unit", "", "unit")),
    ]
    outputs = [promise("twice", "n0", "o0"), promise("text", "n1", "o0")]
    inputs = {"count": INTEGER, "unit": STRING}
    await admin.CreateWorkflow(
        entities.workflow("stack.report", inputs, {"twice": INTEGER, "text": STRING}, nodes, outputs)
    )
    defaults = {"count": (INTEGER, entities.integer(3))}
    fixed = entities.literals(unit="plums")
    await admin.CreateLaunchPlan(entities.launch_plan("stack.plums", "stack.report", defaults, fixed))


async def launch(
    admin: AdminServiceStub, name: str = "", inputs: LiteralMap | None = None
) -> WorkflowExecutionIdentifier:
    """Launch the launch plan of `register`."""
    spec = ExecutionSpec(launch_plan=identifier(ResourceType.LAUNCH_PLAN, "stack.plums"))
    request = ExecutionCreateRequest(project=PROJECT, domain=DOMAIN, name=name, spec=spec, inputs=inputs)
    created: WorkflowExecutionIdentifier = (await admin.CreateExecution(request)).id
    return created
