"""Attributes set over REST apply to the next execution of the whole stack, until they are deleted."""

import httpx
from flyteidl.admin.execution_pb2 import ExecutionCreateRequest, ExecutionSpec, WorkflowExecutionGetRequest
from flyteidl.admin.project_pb2 import Project, ProjectRegisterRequest
from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.support.sandbox import Sandbox

PROJECT, DOMAIN = "acting", "staging"
DEFAULT_PARALLELISM = 25


async def parallelism(admin: AdminServiceStub, plan: Identifier) -> int:
    """Launch an execution and return its maximum parallelism."""
    request = ExecutionCreateRequest(project=PROJECT, domain=DOMAIN, spec=ExecutionSpec(launch_plan=plan))
    created = await admin.CreateExecution(request)
    execution = await admin.GetExecution(WorkflowExecutionGetRequest(id=created.id))
    return int(execution.spec.max_parallelism)


async def test_attributes_apply_to_the_next_launch_until_they_are_deleted(
    admin: AdminServiceStub, sandbox: Sandbox, plums: Identifier
) -> None:
    await admin.RegisterProject(ProjectRegisterRequest(project=Project(id=PROJECT, name=PROJECT)))
    assert await parallelism(admin, plums) == DEFAULT_PARALLELISM
    paths = (
        f"project_attributes/{PROJECT}",
        f"project_domain_attributes/{PROJECT}/{DOMAIN}",
        f"workflow_attributes/{PROJECT}/{DOMAIN}/stack.report",
    )
    async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
        for limit, path in enumerate(paths, 1):
            config = {"workflowExecutionConfig": {"maxParallelism": limit}}
            response = await client.put(path, json={"attributes": {"matchingAttributes": config}})
            assert response.status_code == 200, response.text
            assert await parallelism(admin, plums) == limit
        for remaining, path in ((2, paths[2]), (1, paths[1]), (DEFAULT_PARALLELISM, paths[0])):
            response = await client.request("DELETE", path, json={"resource_type": "WORKFLOW_EXECUTION_CONFIG"})
            assert response.status_code == 200, response.text
            assert await parallelism(admin, plums) == remaining
