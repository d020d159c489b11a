"""Kill -9 of any part while events flow.

The part comes back at its address, every entity ends in the right phase, nothing acknowledged is missing.
"""

import asyncio
from functools import partial

import pytest
from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.admin.execution_pb2 import WorkflowExecutionGetRequest
from flyteidl.admin.node_execution_pb2 import NodeExecutionListRequest
from flyteidl.admin.project_pb2 import ProjectListRequest
from flyteidl.admin.task_execution_pb2 import TaskExecutionListRequest
from flyteidl.core.execution_pb2 import NodeExecution, TaskExecution, WorkflowExecution
from flyteidl.core.identifier_pb2 import Identifier, ResourceType, WorkflowExecutionIdentifier
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.kit.objects.store import ObjectStore
from tests.integration.stack import launched
from tests.support.engine import Engine
from tests.support.entities import identifier, literals
from tests.support.sandbox import Sandbox
from tests.support.waiting import once_available, until

# Enough for every lane while a part is away and comes back.
EXECUTIONS = 24
# Events accepted before the kill, of about 15 that each execution sends.
BEFORE_THE_KILL = 60
END_SECONDS = 90


@pytest.mark.parametrize("part", ["events", "executions", "registry", "projects", "nats", "postgres", "envoy"])
async def test_killed_part_loses_no_event_and_no_phase(
    part: str, sandbox: Sandbox, admin: AdminServiceStub, plums: Identifier
) -> None:
    wanted = ObjectGetRequest(id=identifier(ResourceType.WORKFLOW, "stack.report"))
    # The part that was killed before may have left connections that end when they are used.
    closure = (await once_available(lambda: admin.GetWorkflow(wanted))).closure.compiled_workflow
    ids = [await once_available(lambda: launched.launch(admin, plums)) for _ in range(EXECUTIONS)]
    engine = Engine(admin, ObjectStore.open(sandbox.objects_url, "", ""), launched.TASKS, pod_reasons=2)
    runs = [asyncio.create_task(engine.run(id_, closure, literals(count=3, unit="plums"))) for id_ in ids]
    await until(lambda: engine.calls.sent.total() >= BEFORE_THE_KILL, END_SECONDS)
    ports, killed = sandbox.ports, sandbox.pid(part)
    sandbox.kill(part)
    outputs = await asyncio.wait_for(asyncio.gather(*runs), END_SECONDS)
    assert outputs == [literals(twice=6, text="6 plums")] * EXECUTIONS
    await until(lambda: sandbox.pid(part) != killed, END_SECONDS)
    await until(lambda: sandbox.run("status").returncode == 0, END_SECONDS)
    assert sandbox.ports == ports
    listed = await once_available(lambda: admin.ListProjects(ProjectListRequest(limit=100)))
    assert "flytesnacks" in {project.id for project in listed.projects}
    for id_ in ids:
        await once_available(partial(check_ended, admin, id_))


async def check_ended(admin: AdminServiceStub, id_: WorkflowExecutionIdentifier) -> None:
    execution = await admin.GetExecution(WorkflowExecutionGetRequest(id=id_))
    assert execution.closure.phase == WorkflowExecution.SUCCEEDED
    listed = await admin.ListNodeExecutions(NodeExecutionListRequest(workflow_execution_id=id_, limit=100))
    nodes = {node.id.node_id: node for node in listed.node_executions}
    assert set(nodes) == {"start-node", "n0", "n1", "end-node"}
    assert {node.closure.phase for node in nodes.values()} == {NodeExecution.SUCCEEDED}
    for node_id in ("n0", "n1"):
        request = TaskExecutionListRequest(node_execution_id=nodes[node_id].id, limit=10)
        attempts = (await admin.ListTaskExecutions(request)).task_executions
        assert [attempt.closure.phase for attempt in attempts] == [TaskExecution.SUCCEEDED]
        assert len(attempts[0].closure.reasons) == len({reason.message for reason in attempts[0].closure.reasons})
