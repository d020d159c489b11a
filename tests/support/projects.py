"""Projects for tests that need one."""

from typing import Any

from flyteidl.admin.project_pb2 import Project, ProjectRegisterRequest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub


async def register(admin: AdminServiceStub, identifier: str, **fields: Any) -> Project:
    """Register a project whose name is its id unless `fields` say otherwise, and return it."""
    project = Project(**{"id": identifier, "name": identifier, **fields})
    await admin.RegisterProject(ProjectRegisterRequest(project=project))
    return project
