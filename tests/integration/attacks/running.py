"""An execution that runs, and its events."""

from typing import Any

from flyteidl.admin.event_pb2 import (
    NodeExecutionEventRequest,
    TaskExecutionEventRequest,
    WorkflowExecutionEventRequest,
)
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, ResourceType, WorkflowExecutionIdentifier
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from tests.integration.stack import launched
from tests.support.entities import identifier

NOW = Timestamp(seconds=1_700_000_000)
PLAN = identifier(ResourceType.LAUNCH_PLAN, "stack.plums")


async def running(admin: AdminServiceStub) -> WorkflowExecutionIdentifier:
    """Launch an execution of PLAN, which is registered, and report that it, its node n0 and the node's task run."""
    name = await launched.launch(admin, PLAN)
    for method, event in events(name).items():
        await getattr(admin, method)(event)
    return name


def events(name: WorkflowExecutionIdentifier, phase: str = "RUNNING") -> dict[str, Message]:
    """Return the three events of a phase, by their methods."""
    node = NodeExecutionIdentifier(execution_id=name, node_id="n0")
    workflow = WorkflowExecutionEventRequest()
    workflow.event.execution_id.CopyFrom(name)
    of_node = NodeExecutionEventRequest()
    of_node.event.id.CopyFrom(node)
    task = TaskExecutionEventRequest()
    task.event.parent_node_execution_id.CopyFrom(node)
    task.event.task_id.CopyFrom(identifier(ResourceType.TASK, "stack.double"))
    requests: dict[str, Any] = {"CreateWorkflowEvent": workflow, "CreateNodeEvent": of_node, "CreateTaskEvent": task}
    for request in requests.values():
        request.event.occurred_at.CopyFrom(NOW)
        request.event.phase = request.event.DESCRIPTOR.fields_by_name["phase"].enum_type.values_by_name[phase].number
    return requests
