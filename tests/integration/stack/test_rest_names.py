"""Names and descriptions through the gateway: REST returns the same as gRPC in each encoding, and accepts updates."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from flyteidl.admin import common_pb2, description_entity_pb2
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf import json_format
from google.rpc.status_pb2 import Status

from tests.support.entities import DOMAIN, INTEGER, PROJECT, identifier, task
from tests.support.sandbox import Sandbox

TASK, WORKFLOW, LAUNCH_PLAN = ResourceType.TASK, ResourceType.WORKFLOW, ResourceType.LAUNCH_PLAN
NAME = "rest.named"
BINARY = {"Accept": "application/octet-stream"}
SCOPE = f"{PROJECT}/{DOMAIN}"
WHERE = common_pb2.NamedEntityIdentifier(project=PROJECT, domain=DOMAIN)
NAMED = common_pb2.NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name=NAME)
BY_NAME = common_pb2.Sort(key="name", direction=common_pb2.Sort.ASCENDING)
NEWEST = common_pb2.Sort(key="created_at")


@dataclass(frozen=True)
class Read:
    rpc: str
    path: str
    request: Any


def ids(rpc: str, path: str) -> Read:
    return Read(
        rpc,
        f"{path}/{SCOPE}?limit=3",
        common_pb2.NamedEntityIdentifierListRequest(project=PROJECT, domain=DOMAIN, limit=3),
    )


def names(kind: ResourceType, spelled: str) -> Read:
    """Return the console's list of active names."""
    request = common_pb2.NamedEntityListRequest(
        resource_type=kind, project=PROJECT, domain=DOMAIN, limit=10000, filters="eq(state,0)", sort_by=BY_NAME
    )
    query = "limit=10000&sort_by.key=name&sort_by.direction=ASCENDING&filters=eq(state%2C0)"
    return Read("ListNamedEntities", f"named_entities/{spelled}/{SCOPE}?{query}", request)


def descriptions(name: str) -> Read:
    where = common_pb2.NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name=name)
    request = description_entity_pb2.DescriptionEntityListRequest(resource_type=TASK, id=where, limit=1, sort_by=NEWEST)
    query = "limit=1&sort_by.key=created_at&sort_by.direction=DESCENDING"
    path = f"description_entities/1/{SCOPE}" + (f"/{name}" if name else "")
    return Read("ListDescriptionEntities", f"{path}?{query}", request)


def versions(rpc: str, path: str, filters: str = "") -> Read:
    """Return a list of versions without a limit."""
    query = f"?filters={quote(filters)}" if filters else ""
    return Read(rpc, f"{path}/{SCOPE}{query}", common_pb2.ResourceListRequest(id=WHERE, filters=filters))


IN_BERLIN = "gte(created_at,2020-01-01T00:00:00+01:00)"

READS = [
    ids("ListTaskIds", "task_ids"),
    ids("ListWorkflowIds", "workflow_ids"),
    ids("ListLaunchPlanIds", "launch_plan_ids"),
    names(TASK, "1"),
    names(WORKFLOW, "WORKFLOW"),
    names(LAUNCH_PLAN, "3"),
    Read(
        "GetNamedEntity",
        f"named_entities/1/{SCOPE}/{NAME}",
        common_pb2.NamedEntityGetRequest(resource_type=TASK, id=NAMED),
    ),
    descriptions(NAME),
    descriptions(""),
    Read(
        "ListNamedEntities",
        f"named_entities/2/{SCOPE}?sort_by.key=created_at",
        common_pb2.NamedEntityListRequest(resource_type=WORKFLOW, project=PROJECT, domain=DOMAIN, sort_by=NEWEST),
    ),
    Read(
        "ListTaskIds",
        f"task_ids/{SCOPE}?sort_by.key=created_at",
        common_pb2.NamedEntityIdentifierListRequest(project=PROJECT, domain=DOMAIN, sort_by=NEWEST),
    ),
    versions("ListTasks", "tasks", f"eq(state,0)+{IN_BERLIN}"),
    versions("ListWorkflows", "workflows", f"{IN_BERLIN}+eq(state,0)"),
    versions("ListLaunchPlans", "launch_plans"),
    Read(
        "ListDescriptionEntities",
        f"description_entities/1/{SCOPE}",
        description_entity_pb2.DescriptionEntityListRequest(resource_type=TASK, id=WHERE),
    ),
    Read(
        "GetDescriptionEntity",
        f"description_entities/TASK/{SCOPE}/{NAME}/v1",
        common_pb2.ObjectGetRequest(id=identifier(TASK, NAME)),
    ),
]


@pytest.fixture(scope="module")
async def described(admin: AdminServiceStub, plums: Identifier) -> None:
    """Register a task with a description, in addition to a workflow and its launch plan."""
    assert plums.resource_type == LAUNCH_PLAN
    request = task(NAME, {"x": INTEGER}, {"o0": INTEGER})
    request.spec.description.short_description = "ünï"
    request.spec.description.long_description.value = "# Title"
    request.spec.description.long_description.format = description_entity_pb2.DESCRIPTION_FORMAT_MARKDOWN
    await admin.CreateTask(request)


@pytest.mark.usefixtures("described")
@pytest.mark.parametrize("read", READS, ids=lambda read: read.path)
async def test_rest_returns_the_same_as_grpc_in_each_encoding(
    read: Read, admin: AdminServiceStub, sandbox: Sandbox
) -> None:
    message = await getattr(admin, read.rpc)(read.request)
    async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
        camel = await client.get(read.path)
        snake = await client.get(read.path, headers={"Accept": "application/json"})
        binary = await client.get(read.path, headers=BINARY)
    assert [response.status_code for response in (camel, snake, binary)] == [200, 200, 200], camel.text
    assert json_format.Parse(camel.text, type(message)()) == message
    assert json_format.Parse(snake.text, type(message)()) == message
    assert type(message).FromString(binary.content) == message
    assert message.ByteSize() > 0


@pytest.mark.usefixtures("described")
@pytest.mark.parametrize("encoding", ["binary", "json"])
async def test_name_is_archived_as_the_console_does_it(
    encoding: str, admin: AdminServiceStub, sandbox: Sandbox
) -> None:
    path = f"named_entities/1/{SCOPE}/{NAME}"
    archived = common_pb2.NamedEntityMetadata(state=common_pb2.NAMED_ENTITY_ARCHIVED)
    change = common_pb2.NamedEntityUpdateRequest(resource_type=TASK, id=NAMED, metadata=archived)
    async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
        if encoding == "binary":
            headers = BINARY | {"Content-Type": "application/octet-stream"}
            response = await client.put(path, content=change.SerializeToString(), headers=headers)
        else:
            response = await client.put(path, json={"metadata": {"state": "NAMED_ENTITY_ARCHIVED"}})
        assert response.status_code == 200, response.text
        search = {"limit": "10", "filters": f"eq(state,1)+contains(name,{NAME})"}
        listed = await client.get(f"named_entities/1/{SCOPE}", params=search, headers=BINARY)
    names_listed = common_pb2.NamedEntityList.FromString(listed.content).entities
    assert [(entity.id, entity.metadata) for entity in names_listed] == [(NAMED, archived)]
    change.metadata.state = common_pb2.NAMED_ENTITY_ACTIVE
    await admin.UpdateNamedEntity(change)


@pytest.mark.parametrize(
    ("path", "status", "code", "message"),
    [
        (f"named_entities/1/{SCOPE}/nothing", 404, 5, "entry not found"),
        (f"named_entities/4/{SCOPE}/nothing", 400, 3, "Cannot get NamedEntityMetadata for resource type: DATASET"),
        (f"named_entities/0/{SCOPE}?limit=1", 400, 3, "invalid value for resource_type"),
        (f"named_entities/1/{SCOPE}?sort_by.key=state", 400, 3, "invalid sort key 'state'"),
        # An unescaped plus is a blank.
        (f"named_entities/1/{SCOPE}?limit=1&filters=eq(state,0)+eq(x,1)", 400, 3, "'nen.x' is invalid filter"),
        (f"task_ids/{SCOPE}?limit=1&token=x", 400, 3, "invalid pagination token x for ListUniqueTaskIdentifiers"),
        (f"description_entities/2/{SCOPE}/nothing/v1", 404, 5, "entry not found"),
        (f"description_entities/2/{SCOPE}/nothing?limit=1&filters=x", 400, 3, "invalid value for filters"),
    ],
)
async def test_wrong_request_returns_code_and_message_over_rest(
    path: str, status: int, code: int, message: str, sandbox: Sandbox
) -> None:
    async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
        response = await client.get(path)
        binary = await client.get(path, headers=BINARY)
    assert (response.status_code, binary.status_code) == (status, status)
    assert response.json() == {"code": code, "message": message, "details": []}
    assert Status.FromString(binary.content) == Status(code=code, message=message)
