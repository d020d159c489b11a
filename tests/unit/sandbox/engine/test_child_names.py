"""An execution that has the name of a child is the child only if its parent is the node that asks for it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from flyteidl.admin.execution_pb2 import (
    Execution,
    ExecutionCreateRequest,
    ExecutionCreateResponse,
    ExecutionSpec,
    WorkflowExecutionGetRequest,
)
from flyteidl.admin.matchable_resource_pb2 import TaskResourceAttributes, WorkflowExecutionConfig
from flyteidl.core.execution_pb2 import ExecutionError
from flyteidl.core.identifier_pb2 import Identifier, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.service.admin_pb2_grpc import AdminServiceServicer, add_AdminServiceServicer_to_server

from deploy.sandbox.engine.cache import TaskCache
from deploy.sandbox.engine.control_plane import ControlPlane, open_channel
from deploy.sandbox.engine.effects import Effects
from deploy.sandbox.engine.graph.interface import StartChild, TaskKey
from deploy.sandbox.engine.graph.node_ids import child_name
from deploy.sandbox.engine.runs import Ends
from services.contracts.engine import EngineInputs, RunRequest
from services.kit.objects.store import ObjectStore


class Executions(AdminServiceServicer):
    """Executions by name."""

    def __init__(self) -> None:
        self.specs: dict[str, ExecutionSpec] = {}

    async def CreateExecution(self, request: ExecutionCreateRequest, context: Any) -> ExecutionCreateResponse:
        if request.name in self.specs:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "there is one")
        self.specs[request.name] = request.spec
        return ExecutionCreateResponse()

    async def GetExecution(self, request: WorkflowExecutionGetRequest, _context: Any) -> Execution:
        return Execution(id=request.id, spec=self.specs[request.id.name])


def execution(name: str) -> WorkflowExecutionIdentifier:
    return WorkflowExecutionIdentifier(project="p", domain="d", name=name)


@pytest.fixture
async def executions() -> AsyncIterator[tuple[Executions, ControlPlane]]:
    servicer, server = Executions(), grpc.aio.server()
    add_AdminServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = open_channel(f"127.0.0.1:{port}")
    yield servicer, ControlPlane(channel)
    await channel.close(None)
    await server.stop(None)


def effects(of: str, control_plane: ControlPlane, folder: Path) -> Effects:
    inputs, now = EngineInputs(TaskResourceAttributes()), datetime.now(UTC)
    request = RunRequest(execution(of), Identifier(), ExecutionSpec(), WorkflowExecutionConfig(), "", inputs, now)
    objects = ObjectStore.open((folder / "objects").as_uri(), "", "")
    return Effects(request, control_plane, objects, TaskCache(objects, folder), Ends().of)


def start(of: str, node: str) -> StartChild:
    return StartChild(TaskKey(node), execution(child_name(of, node, 0)), Identifier(), LiteralMap())


async def test_child_of_an_earlier_try_is_the_child(
    executions: tuple[Executions, ControlPlane], tmp_path: Path
) -> None:
    run = effects("e", executions[1], tmp_path)
    for _ in range(2):
        assert await run.create_child(start("e", "n-0")) is None


async def test_child_of_another_node_is_not_the_child(
    executions: tuple[Executions, ControlPlane], tmp_path: Path
) -> None:
    servicer, control_plane = executions
    assert await effects("e", control_plane, tmp_path).create_child(start("e", "n-0")) is None
    failed = await effects("e-n", control_plane, tmp_path).create_child(start("e-n", "0"))
    assert list(servicer.specs) == ["e-n-0-0"]
    assert failed is not None
    assert failed.error is not None
    assert failed.error.kind == ExecutionError.USER
    assert "e-n-0-0, the name of the child, is that of another execution" in failed.error.message


async def test_execution_without_parent_is_not_the_child(
    executions: tuple[Executions, ControlPlane], tmp_path: Path
) -> None:
    servicer, control_plane = executions
    servicer.specs["e-n0-0"] = ExecutionSpec()
    assert await effects("e", control_plane, tmp_path).create_child(start("e", "n0")) is not None
