"""Calls about the control plane itself: its version, resource limits, and the services of authentication."""

import grpc
import httpx
import pytest
from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.admin.version_pb2 import GetVersionRequest
from flyteidl.core.tasks_pb2 import Resources
from flyteidl.service import auth_pb2, identity_pb2
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flyteidl.service.auth_pb2_grpc import AuthMetadataServiceStub
from flyteidl.service.identity_pb2_grpc import IdentityServiceStub
from google.protobuf import json_format

from services.kit.process.version import running_version
from tests.support.entities import task
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox

UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED


async def test_version_is_that_of_the_running_code_and_commit(admin: AdminServiceStub, sandbox: Sandbox) -> None:
    version = (await admin.GetVersion(GetVersionRequest())).control_plane_version
    assert (version.Version, version.Build) == (f"v{running_version().version}", running_version().commit)
    assert version.BuildTime
    async with httpx.AsyncClient(base_url=sandbox.url) as client:
        responses = [
            await client.get("/api/v1/version", headers=accept) for accept in ({}, {"Accept": "application/json"})
        ]
    expected = {"Build": version.Build, "Version": version.Version, "BuildTime": version.BuildTime}
    assert responses[0].json() == {"controlPlaneVersion": expected}
    assert responses[1].json() == {"control_plane_version": expected}


async def test_tasks_may_request_more_than_the_default_limits(admin: AdminServiceStub, sandbox: Sandbox) -> None:
    """As `pyflyte register --resource-requests` of flytekit's own tests does."""
    amounts = [(Resources.MEMORY, "1100Mi"), (Resources.CPU, "64"), (Resources.EPHEMERAL_STORAGE, "1Ti")]
    for version in ("grpc", "rest"):
        request = task("asks.for.much", {}, {}, version)
        for name, value in amounts:
            request.spec.template.container.resources.requests.add(name=name, value=value)
            request.spec.template.container.resources.limits.add(name=name, value=value)
        if version == "grpc":
            await admin.CreateTask(request)
        else:
            async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
                response = await client.post("tasks", json=json_format.MessageToDict(request))
                assert (response.status_code, response.json()) == (200, {})
        stored = await admin.GetTask(ObjectGetRequest(id=request.id))
        container = stored.closure.compiled_task.template.container
        assert [(entry.name, entry.value) for entry in container.resources.requests] == amounts


async def test_services_of_authentication_are_unimplemented(sandbox: Sandbox) -> None:
    """Clients call them only after UNAUTHENTICATED, which is never returned (clients.md#no-authentication)."""
    async with sandbox.channel() as channel:
        metadata, identity = AuthMetadataServiceStub(channel), IdentityServiceStub(channel)
        for call, service in (
            (metadata.GetOAuth2Metadata(auth_pb2.OAuth2MetadataRequest()), "AuthMetadataService"),
            (metadata.GetPublicClientConfig(auth_pb2.PublicClientAuthConfigRequest()), "AuthMetadataService"),
            (identity.UserInfo(identity_pb2.UserInfoRequest()), "IdentityService"),
        ):
            await refused(call, UNIMPLEMENTED, f"unknown service flyteidl.service.{service}")


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/me", "IdentityService"),
        ("/.well-known/oauth-authorization-server", "AuthMetadataService"),
        ("/config/v1/flyte_client", "AuthMetadataService"),
    ],
)
async def test_rest_paths_of_authentication_are_501(sandbox: Sandbox, path: str, service: str) -> None:
    async with httpx.AsyncClient(base_url=sandbox.url) as client:
        response = await client.get(path)
    assert (response.status_code, response.json()["code"]) == (501, 12)
    assert response.json()["message"] == f"unknown service flyteidl.service.{service}"
