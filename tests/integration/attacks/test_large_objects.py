"""Large objects that an event names as inputs or outputs: any upload may be such an object."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
from flyteidl.admin.execution_pb2 import (
    WorkflowExecutionGetDataRequest,
    WorkflowExecutionGetMetricsRequest,
    WorkflowExecutionGetRequest,
)
from flyteidl.admin.node_execution_pb2 import NodeExecutionGetDataRequest, NodeExecutionGetDataResponse
from flyteidl.admin.task_execution_pb2 import TaskExecutionGetDataRequest
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, ResourceType, TaskExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap
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
# So many small literals, 7.5 MiB, take much CPU time.
LITERALS = 400_000
CALLS = 8
MOST_SECONDS_OF_OTHERS = 2.0
MOST_GATEWAY_SECONDS = 0.5
# Attempts and the custom information of each, which no span contains.
ATTEMPTS = 30
INFORMATION = "x" * 3_700_000


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


async def _run_with_many_literals(attacked: Sandbox, admin: AdminServiceStub) -> Any:
    """Return an execution with an object of many literals as its outputs and those of its node."""
    literals = LiteralMap()
    for number in range(LITERALS):
        literals.literals[f"k{number}"].scalar.primitive.integer = number
    many = attacked.folder / "objects" / "uploads" / "many-literals"
    many.parent.mkdir(exist_ok=True)
    many.write_bytes(literals.SerializeToString())
    name = await running(admin)
    requests: dict[str, Any] = events(name, "SUCCEEDED")
    for method, request in reversed(requests.items()):
        request.event.output_uri = many.as_uri()
        await getattr(admin, method)(request)
    return name


def _cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


@pytest.mark.parametrize("literal", ["", "/k0"])
async def test_many_literals_do_not_delay_other_clients(attacked: Sandbox, literal: str) -> None:
    pid = attacked.pid("executions")
    async with attacked.channel() as channel, attacked.channel() as others:
        name = await _run_with_many_literals(attacked, AdminServiceStub(channel))
        request = GetDataRequest(flyte_url=f"flyte://v1/{name.project}/{name.domain}/{name.name}/n0/o{literal}")
        get_data = channel.unary_unary("/flyteidl.service.DataProxyService/GetData", bytes, bytes)
        payload = request.SerializeToString()
        calls = asyncio.gather(*(get_data(payload, timeout=60) for _ in range(CALLS)))
        worst = 0.0
        while not calls.done():
            before, started = _cpu_seconds(pid), time.monotonic()
            await AdminServiceStub(others).GetExecution(WorkflowExecutionGetRequest(id=name))
            # On a busy machine the clock advances faster than the CPU time of the service.
            worst = max(worst, min(_cpu_seconds(pid) - before, time.monotonic() - started))
        await calls
    assert worst < MOST_SECONDS_OF_OTHERS


async def test_many_literals_are_not_written_as_json(attacked: Sandbox) -> None:
    async with attacked.channel() as channel:
        name = await _run_with_many_literals(attacked, AdminServiceStub(channel))
    pid = attacked.pid("envoy")
    before = _cpu_seconds(pid)
    node = f"/api/v1/data/node_executions/{name.project}/{name.domain}/{name.name}/n0"
    async with httpx.AsyncClient(base_url=attacked.url, timeout=60) as client:
        as_json = await client.get(node)
        assert _cpu_seconds(pid) - before < MOST_GATEWAY_SECONDS
        as_protobuf = await client.get(node, headers={"Accept": "application/octet-stream"})
    assert "fullInputs" in as_json.json()
    assert "fullOutputs" not in as_json.json()
    whole = NodeExecutionGetDataResponse.FromString(as_protobuf.content)
    assert len(whole.full_outputs.literals) == LITERALS


async def test_metrics_do_not_read_large_closures_into_memory(attacked: Sandbox) -> None:
    async with attacked.channel() as channel:
        admin = AdminServiceStub(channel)
        name = await running(admin)
        request: Any = events(name)["CreateTaskEvent"]
        request.event.custom_info["a"] = INFORMATION
        for attempt in range(ATTEMPTS):
            request.event.retry_attempt = attempt + 1
            await admin.CreateTaskEvent(request)
        pid = attacked.pid("executions")
        before = reset_peak(pid)
        metrics = admin.GetExecutionMetrics(WorkflowExecutionGetMetricsRequest(id=name, depth=3))
        await refused(metrics, grpc.StatusCode.RESOURCE_EXHAUSTED, "nodes and tasks are too large")
        assert peak(pid) - before < MOST_GROWTH
