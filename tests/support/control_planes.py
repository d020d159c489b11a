"""Projects, registry and executions in this process, with the engine `kubernetes`; launches of registered workflows."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from flyteidl.admin.execution_pb2 import (
    Execution,
    ExecutionCreateRequest,
    ExecutionTerminateRequest,
    WorkflowExecutionGetRequest,
)
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.support.entities import INTEGER, identifier, launch_plan, promise, task, task_node, workflow
from tests.support.executions import execution_id, launch
from tests.support.parts import Parts, Served, service

TASK, WORKFLOW = "double", "chain"


@dataclass(frozen=True)
class ControlPlane:
    """Running services."""

    registry: AdminServiceStub
    executions: AdminServiceStub
    served: Served
    """The executions service."""

    async def register(self, name: str = WORKFLOW, *, padding: int = 0) -> None:
        """Register a workflow of one task, and a launch plan of its name; `padding` bytes make the task larger."""
        types = {"a": INTEGER}
        request = task(f"{TASK}-{name}", types, {"o": INTEGER})
        request.spec.template.container.args.append("x" * padding)
        await self.registry.CreateTask(request)
        node = task_node("n0", f"{TASK}-{name}", promise("a", "", "a"))
        outputs = [promise("o", "n0", "o")]
        await self.registry.CreateWorkflow(workflow(name, types, {"o": INTEGER}, [node], outputs))
        await self.registry.CreateLaunchPlan(launch_plan(name, name))

    async def launch(self, name: str, of: str = WORKFLOW, **spec: Any) -> None:
        """Launch an execution."""
        await self.executions.CreateExecution(self.launch_request(name, of, **spec))

    @staticmethod
    def launch_request(name: str, of: str = WORKFLOW, **spec: Any) -> ExecutionCreateRequest:
        """Return the request of `launch`."""
        return launch(name, launches=identifier(ResourceType.LAUNCH_PLAN, of), **spec)

    async def get(self, name: str) -> Execution:
        """Return an execution."""
        found: Execution = await self.executions.GetExecution(WorkflowExecutionGetRequest(id=execution_id(name)))
        return found

    async def phase(self, name: str) -> str:
        """Return the phase of an execution."""
        return WorkflowExecution.Phase.Name((await self.get(name)).closure.phase)

    async def terminate(self, name: str) -> None:
        """Terminate an execution."""
        await self.executions.TerminateExecution(ExecutionTerminateRequest(id=execution_id(name), cause="enough"))

    async def rows(self, columns: str, condition: str = "true") -> list[tuple[Any, ...]]:
        """Return columns of the rows of executions."""
        url = self.served.settings.database_url
        async with await psycopg.AsyncConnection.connect(url) as connection:
            cursor = await connection.execute(
                f"SELECT {columns} FROM executions WHERE {condition} ORDER BY execution_name".encode()
            )
            return await cursor.fetchall()


@asynccontextmanager
async def control_plane(
    parts: Parts, name: str, clusters: Sequence[Mapping[str, Any]], namespace: str, **settings: Any
) -> AsyncIterator[ControlPlane]:
    """Run the services during the block, with databases and objects named after `name`.

    Args:
        parts: PostgreSQL and NATS.
        name: Unique among the tests of a session.
        clusters: The setting `clusters`.
        namespace: The namespace of all executions.
        settings: Further settings of executions.
    """
    objects_url = f"file://{parts.folder / 'objects' / name}"
    async with (
        service("projects", parts, f"{name}_projects"),
        service("registry", parts, f"{name}_registry", objects_url=objects_url) as registry,
        service(
            "executions",
            parts,
            name,
            objects_url=objects_url,
            signing_key="key",
            engine="kubernetes",
            clusters=clusters,
            namespace_template=namespace,
            **settings,
        ) as executions,
    ):
        running = ControlPlane(AdminServiceStub(registry.channel), AdminServiceStub(executions.channel), executions)
        await running.register()
        yield running
