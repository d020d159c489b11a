"""`python -m tests.support.play HOST:PORT OBJECTS_URL NAME`: run one execution of the first example by the fake engine.

The compiled workflow is read from the control plane; tasks run as plain functions.
"""

import asyncio
import sys

import grpc
from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.admin.execution_pb2 import WorkflowExecutionGetRequest
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.kit.objects.store import ObjectStore
from tests.support.engine import Engine, TaskFunction
from tests.support.entities import DOMAIN, PROJECT

REPORT_TASKS: dict[str, TaskFunction] = {
    "report.double": lambda count: {"o0": count * 2},
    "report.add": lambda a, b: {"o0": a + b},
    "report.describe": lambda total, unit: {"o0": f"{total} {unit}"},
}


async def play(admin: AdminServiceStub, objects_url: str, name: str, tasks: dict[str, TaskFunction]) -> None:
    """Run the execution `name` to its end."""
    execution_id = WorkflowExecutionIdentifier(project=PROJECT, domain=DOMAIN, name=name)
    execution = await admin.GetExecution(WorkflowExecutionGetRequest(id=execution_id))
    workflow = await admin.GetWorkflow(ObjectGetRequest(id=execution.closure.workflow_id))
    engine = Engine(admin, ObjectStore.open(objects_url, "", ""), tasks)
    await engine.run(execution_id, workflow.closure.compiled_workflow)


async def _main(target: str, objects_url: str, name: str) -> None:
    async with grpc.aio.insecure_channel(target) as channel:
        await play(AdminServiceStub(channel), objects_url, name, REPORT_TASKS)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
