"""Large objects that an event names as inputs or outputs: any upload may be such an object."""

import os
from pathlib import Path
from typing import Any

import grpc
import pytest
from flyteidl.admin.execution_pb2 import WorkflowExecutionGetDataRequest
from flyteidl.admin.node_execution_pb2 import NodeExecutionGetDataRequest
from flyteidl.admin.task_execution_pb2 import TaskExecutionGetDataRequest
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, ResourceType, TaskExecutionIdentifier
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flyteidl.service.dataproxy_pb2 import GetDataRequest
from flyteidl.service.dataproxy_pb2_grpc import DataProxyServiceStub

from tests.integration.attacks.running import events, running
from tests.support.entities import identifier
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("plan")  # which is launched

MEBIBYTE = 1 << 20
OBJECT_BYTES = 700 * MEBIBYTE
MOST_GROWTH = 100 * MEBIBYTE


def peak(pid: int) -> int:
    """Return the most memory that a process had since `reset_peak`, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024


def reset_peak(pid: int) -> int:
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak(pid)


async def test_large_objects_are_not_read_into_memory(attacked: Sandbox) -> None:
    large = attacked.folder / "objects" / "uploads" / "large-object"
    large.parent.mkdir(exist_ok=True)
    large.touch()
    os.truncate(large, OBJECT_BYTES)
    async with attacked.channel() as channel:
        admin = AdminServiceStub(channel)
        name = await running(admin)
        requests: dict[str, Any] = events(name, "SUCCEEDED")
        for method, request in reversed(requests.items()):
            request.event.output_uri = large.as_uri()
            await getattr(admin, method)(request)
        node = NodeExecutionIdentifier(execution_id=name, node_id="n0")
        task = TaskExecutionIdentifier(node_execution_id=node, task_id=identifier(ResourceType.TASK, "stack.double"))
        pid = attacked.pid("executions")
        before = reset_peak(pid)
        for response in (
            await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=name)),
            await admin.GetNodeExecutionData(NodeExecutionGetDataRequest(id=node)),
            await admin.GetTaskExecutionData(TaskExecutionGetDataRequest(id=task)),
        ):
            assert response.HasField("full_inputs")
            assert not response.HasField("full_outputs")
        url = f"flyte://v1/{name.project}/{name.domain}/{name.name}/n0/o"
        proxy = DataProxyServiceStub(channel)
        assert len((await proxy.GetData(GetDataRequest(flyte_url=url))).pre_signed_urls.signed_url) == 1
        literal = GetDataRequest(flyte_url=f"{url}/o0")
        await refused(proxy.GetData(literal), grpc.StatusCode.RESOURCE_EXHAUSTED, "too large to be answered")
        assert peak(pid) - before < MOST_GROWTH
