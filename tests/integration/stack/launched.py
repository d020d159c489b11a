"""A launch plan for tests of the whole stack, and its launches."""

from flyteidl.admin.execution_pb2 import ExecutionCreateRequest, ExecutionSpec
from flyteidl.core.identifier_pb2 import Identifier, WorkflowExecutionIdentifier
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.support import entities
from tests.support.engine import TaskFunction
from tests.support.entities import DOMAIN, INTEGER, PROJECT, STRING, promise, task_node

TASKS: dict[str, TaskFunction] = {
    "stack.double": lambda a: {"o0": a * 2},
    "stack.describe": lambda n, unit: {"o0": f"{n} {unit}"},
}


async def register(admin: AdminServiceStub) -> Identifier:
    """Register two tasks and a workflow of both with a default input; return a launch plan of it with a fixed one."""
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
    plan = entities.launch_plan("stack.plums", "stack.report", defaults, fixed)
    await admin.CreateLaunchPlan(plan)
    return plan.id


async def launch(admin: AdminServiceStub, plan: Identifier) -> WorkflowExecutionIdentifier:
    """Launch a plan with its default inputs."""
    request = ExecutionCreateRequest(project=PROJECT, domain=DOMAIN, spec=ExecutionSpec(launch_plan=plan))
    created: WorkflowExecutionIdentifier = (await admin.CreateExecution(request)).id
    return created
