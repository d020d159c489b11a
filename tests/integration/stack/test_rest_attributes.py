"""Matchable attributes through the gateway: written, read, listed and deleted over REST as over gRPC."""

from typing import Any

import grpc
import httpx
import pytest
from flyteidl.admin import matchable_resource_pb2
from flyteidl.admin.project_pb2 import Project, ProjectRegisterRequest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf import json_format

from tests.support.attributes import (
    LEVELS,
    PROJECT,
    PROJECT_DOMAIN,
    WORKFLOW,
    attributes,
    delete,
    get,
    put,
    scoped,
)
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox

KINDS = matchable_resource_pb2.MatchableResource.keys()
SCOPE = ("rest-attributes", "development", "peel")
FOLDERS = {
    PROJECT: "project_attributes",
    PROJECT_DOMAIN: "project_domain_attributes",
    WORKFLOW: "workflow_attributes",
}
CAMEL: dict[str, str] = {}
SNAKE = {"Accept": "application/json"}
BINARY = {"Accept": "application/octet-stream"}


@pytest.fixture(scope="module", autouse=True)
async def project(admin: AdminServiceStub) -> None:
    await admin.RegisterProject(ProjectRegisterRequest(project=Project(id=SCOPE[0], name=SCOPE[0])))


@pytest.fixture
async def rest(sandbox: Sandbox) -> Any:
    async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
        yield client


def path(level: str, scope: tuple[str, ...] = SCOPE) -> str:
    return "/".join((FOLDERS[level], *scoped(level, scope).values()))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", KINDS)
async def test_attributes_written_and_deleted_over_rest_are_read_over_grpc(
    admin: AdminServiceStub, rest: httpx.AsyncClient, level: str, kind: str
) -> None:
    given = attributes(kind, 5)
    body = {"attributes": {"matchingAttributes": json_format.MessageToDict(given)}}
    assert (await rest.put(path(level), json=body)).json() == {}
    member = given.WhichOneof("target") or ""
    stored = (await get(admin, level, SCOPE, kind)).matching_attributes
    assert stored.WhichOneof("target") == member
    if (level, kind) != (PROJECT, "WORKFLOW_EXECUTION_CONFIG"):  # which is completed with the platform's defaults
        assert stored == given

    query = {"resource_type": kind}
    responses = [await rest.get(path(level), params=query, headers=headers) for headers in (CAMEL, SNAKE, BINARY)]
    assert [response.status_code for response in responses] == [200, 200, 200]
    read = await get(admin, level, SCOPE, kind)
    for response in responses[:2]:
        assert json_format.ParseDict(response.json()["attributes"], type(read)()) == read
    assert read.SerializeToString() in responses[2].content

    gone = await rest.request("DELETE", path(level), json={"resource_type": kind})
    assert (gone.status_code, gone.json()) == (200, {})
    if (level, kind) != (PROJECT, "WORKFLOW_EXECUTION_CONFIG"):
        await refused(get(admin, level, SCOPE, kind), grpc.StatusCode.NOT_FOUND)
        missing = await rest.get(path(level), params=query)
        assert (missing.status_code, missing.json()["code"]) == (404, 5)
        assert missing.json()["message"].endswith(f"ResourceType:{kind}}}] not found")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"limits": {"cpu": "many"}}, "limits.cpu failed for value many - reason quantities must match"),
        ({"defaults": {"memory": "1Gi"}, "limits": {"memory": "500Mi"}}, "default [1Gi] is greater than the limit"),
    ],
)
async def test_invalid_amounts_are_refused_alike_and_change_nothing(
    admin: AdminServiceStub, rest: httpx.AsyncClient, level: str, resources: dict[str, Any], message: str
) -> None:
    given = attributes("TASK_RESOURCE", 1)
    await put(admin, level, SCOPE, given)
    wrong = json_format.ParseDict({"taskResourceAttributes": resources}, matchable_resource_pb2.MatchingAttributes())
    error = await refused(put(admin, level, SCOPE, wrong), grpc.StatusCode.INVALID_ARGUMENT, message)
    body = {"attributes": {"matchingAttributes": {"taskResourceAttributes": resources}}}
    response = await rest.put(path(level), json=body)
    assert (response.status_code, response.json()["code"], response.json()["message"]) == (400, 3, error.details())
    assert (await get(admin, level, SCOPE, "TASK_RESOURCE")).matching_attributes == given
    await delete(admin, level, SCOPE, "TASK_RESOURCE")


async def test_console_reads_the_platforms_defaults_of_a_project(rest: httpx.AsyncClient) -> None:
    """By the number of the kind, as the console does (clients.md#default-execution-config)."""
    response = await rest.get(path(PROJECT), params={"resource_type": 6})
    config = response.json()["attributes"]["matchingAttributes"]["workflowExecutionConfig"]
    assert config["maxParallelism"] == 25
    below = await rest.get(path(PROJECT_DOMAIN), params={"resource_type": 6})
    assert below.status_code == 404


async def test_list_is_the_same_over_rest_and_grpc(admin: AdminServiceStub, rest: httpx.AsyncClient) -> None:
    await put(admin, WORKFLOW, SCOPE, attributes("CLUSTER_RESOURCE", 2))
    await put(admin, PROJECT, SCOPE, attributes("CLUSTER_RESOURCE", 1))
    listed = await rest.get("matchable_attributes", params={"resource_type": "CLUSTER_RESOURCE"})
    request = matchable_resource_pb2.ListMatchableAttributesRequest(resource_type="CLUSTER_RESOURCE")
    stored = await admin.ListMatchableAttributes(request)
    assert json_format.Parse(listed.text, type(stored)()) == stored
    assert [each.workflow for each in stored.configurations if each.project == SCOPE[0]] == ["peel", ""]
    for level in (WORKFLOW, PROJECT):
        await delete(admin, level, SCOPE, "CLUSTER_RESOURCE")


@pytest.mark.parametrize(
    ("verb", "where", "message"),
    [
        ("PUT", path(PROJECT_DOMAIN, ("nowhere", "staging")), "project [nowhere] and domain [staging] are registered"),
        ("PUT", path(PROJECT_DOMAIN, (SCOPE[0], "mars")), "domain [mars] is unrecognized by system"),
        ("GET", path(PROJECT, ("nowhere",)), "failed to validate that project [nowhere] exists"),
        ("PUT", path(PROJECT), "missing matching_attributes"),
        ("DELETE", path(PROJECT, ("nowhere",)), "failed to validate that project [nowhere] is registered"),
        ("GET", "matchable_attributes?resource_type=99", 'resource_type: invalid value "99"'),
    ],
)
async def test_wrong_request_is_400_over_rest(rest: httpx.AsyncClient, verb: str, where: str, message: str) -> None:
    body: dict[str, Any] | None = {"attributes": {}} if verb == "PUT" else None
    response = await rest.request(verb, where, json=body)
    assert (response.status_code, response.json()["code"]) == (400, 3), response.text
    assert message in response.json()["message"]
