"""Bad calls to the projects service through the gateway, by gRPC and REST: code and message, nothing changed.

The order of the cases is that of the checks (projects.md#registerproject, projects.md#updateproject,
projects.md#getproject, lists.md#listprojects, projects.md#project-checks, projects.md#setting-attributes,
projects.md#reading-attributes).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import pytest
from flyteidl.admin.common_pb2 import Labels, Sort
from flyteidl.admin.matchable_resource_pb2 import (
    ClusterResourceAttributes,
    ListMatchableAttributesRequest,
    MatchingAttributes,
)
from flyteidl.admin.project_attributes_pb2 import (
    ProjectAttributes,
    ProjectAttributesDeleteRequest,
    ProjectAttributesGetRequest,
    ProjectAttributesUpdateRequest,
)
from flyteidl.admin.project_domain_attributes_pb2 import (
    ProjectDomainAttributes,
    ProjectDomainAttributesDeleteRequest,
    ProjectDomainAttributesGetRequest,
    ProjectDomainAttributesUpdateRequest,
)
from flyteidl.admin.project_pb2 import (
    Domain,
    InactiveProject,
    Project,
    ProjectGetRequest,
    ProjectListRequest,
    ProjectRegisterRequest,
)
from flyteidl.admin.workflow_attributes_pb2 import (
    WorkflowAttributes,
    WorkflowAttributesDeleteRequest,
    WorkflowAttributesGetRequest,
    WorkflowAttributesUpdateRequest,
)
from flyteidl.core.execution_pb2 import QualityOfService
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf import json_format
from google.protobuf.message import Message

from tests.support.refusals import detail_of, refused
from tests.support.sandbox import Sandbox

INVALID, MISSING, EXISTS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
)
HTTP = {INVALID: 400, MISSING: 404, EXISTS: 409}
LIVE, GONE, NOWHERE = "badprojects", "badprojects-gone", "badprojects-nowhere"
SOME = MatchingAttributes(cluster_resource_attributes=ClusterResourceAttributes(attributes={"a": "b"}))
NONE_KNOWN = MatchingAttributes()


@dataclass(frozen=True)
class Case:
    """A call in both protocols. In REST fields of the path need not be in the body, or in the query of a GET."""

    rpc: str
    request: Message
    rest: tuple[str, str] | None  # verb and path; None where no path can express it
    message: str
    code: grpc.StatusCode = INVALID
    query: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.rpc} {self.rest}: {self.message[:40]}"


def registers(message: str, code: grpc.StatusCode = INVALID, **project: Any) -> Case:
    request = ProjectRegisterRequest(project=Project(**project)) if project else ProjectRegisterRequest()
    return Case("RegisterProject", request, ("POST", "projects"), message, code)


def updates(message: str, code: grpc.StatusCode = INVALID, **project: Any) -> Case:
    rest = ("PUT", f"projects/{project['id']}") if project.get("id") else None
    return Case("UpdateProject", Project(**project), rest, message, code)


def lists(message: str, **request: Any) -> Case:
    query = {name: str(value) for name, value in request.items() if name != "sort_by"}
    if "sort_by" in request:
        query["sort_by.key"] = request["sort_by"].key
    return Case("ListProjects", ProjectListRequest(limit=5, **request), ("GET", "projects"), message, query=query)


def on_project(verb: str, message: str, project: str, code: grpc.StatusCode = INVALID, **more: Any) -> Case:
    rest = {"Update": "PUT", "Get": "GET", "Delete": "DELETE"}[verb], f"project_attributes/{project}"
    request: Message
    if verb == "Update":
        attributes = ProjectAttributes(project=project, **({"matching_attributes": SOME} | more))
        request = ProjectAttributesUpdateRequest(attributes=attributes)
    else:
        request = {"Get": ProjectAttributesGetRequest, "Delete": ProjectAttributesDeleteRequest}[verb](project=project)
    return Case(f"{verb}ProjectAttributes", request, rest if project else None, message, code)


def on_domain(
    verb: str, message: str, project: str, domain: str = "development", code: grpc.StatusCode = INVALID, **more: Any
) -> Case:
    rest = {"Update": "PUT", "Get": "GET", "Delete": "DELETE"}[verb], f"project_domain_attributes/{project}/{domain}"
    scope: dict[str, Any] = {"project": project, "domain": domain}
    request: Message
    if verb == "Update":
        attributes = ProjectDomainAttributes(**scope, **({"matching_attributes": SOME} | more))
        request = ProjectDomainAttributesUpdateRequest(attributes=attributes)
    elif verb == "Get":
        request = ProjectDomainAttributesGetRequest(**scope)
    else:
        request = ProjectDomainAttributesDeleteRequest(**scope)
    return Case(f"{verb}ProjectDomainAttributes", request, rest if project and domain else None, message, code)


def on_workflow(
    verb: str, message: str, project: str, workflow: str = "w", code: grpc.StatusCode = INVALID, **more: Any
) -> Case:
    verbs = {"Update": "PUT", "Get": "GET", "Delete": "DELETE"}
    rest = verbs[verb], f"workflow_attributes/{project}/development/{workflow}"
    scope: dict[str, Any] = {"project": project, "domain": "development", "workflow": workflow}
    request: Message
    if verb == "Update":
        attributes = WorkflowAttributes(**scope, **({"matching_attributes": SOME} | more))
        request = WorkflowAttributesUpdateRequest(attributes=attributes)
    elif verb == "Get":
        request = WorkflowAttributesGetRequest(**scope)
    else:
        request = WorkflowAttributesDeleteRequest(**scope)
    return Case(f"{verb}WorkflowAttributes", request, rest if project and workflow else None, message, code)


def not_found(project: str, domain: str = "", workflow: str = "") -> str:
    scope = f"Project:{project} Domain:{domain} Workflow:{workflow} LaunchPlan: ResourceType:TASK_RESOURCE"
    return f"Resource [{{{scope}}}] not found"


def unregistered(project: str, domain: str = "development") -> str:
    return (
        f"failed to validate that project [{project}] and domain [{domain}] are registered, "
        f"err: [project [{project}] not found]"
    )


LONG = "é" * 33
CASES = [
    registers("missing project"),
    registers("missing project_name", id="p"),
    registers("missing project_id", name="n"),
    registers(
        "labels map cannot exceed 16 entries",
        id="Bad Id",
        name="n",
        labels=Labels(values={f"k{n}": "" for n in range(17)}),
    ),
    registers("invalid label key [a b]: [", id="Bad Id", name="n", labels=Labels(values={"a b": "v"})),
    registers(
        "invalid label value [#bar]: [a valid label must be an empty string or consist of",
        id="Bad Id",
        name=LONG,
        labels=Labels(values={"a": "#bar"}),
    ),
    registers("invalid project id [Bad Id]: [", id="Bad Id", name=LONG),
    registers("invalid project id [pröject]: [", id="pröject", name="n"),
    registers("must be no more than 63 characters]", id="a" * 64, name="n"),
    registers("project_name cannot exceed 64 characters", id="p", name=LONG, description="d" * 301),
    registers("project_description cannot exceed 300 characters", id="p", name="n", description="d" * 301),
    registers("Domains are currently only set system wide.", id="p", name="n", domains=[Domain(id="d")]),
    registers("value with matching already exists", EXISTS, id=LIVE, name="again"),
    registers("value with matching already exists", EXISTS, id=GONE, name="again"),
    updates("missing project_id", name="n"),
    updates(f"project [{NOWHERE}] not found", MISSING, id=NOWHERE, labels=Labels(values={"a": "#bar"})),
    updates("invalid label value [#bar]: [", id=LIVE, name=LONG, labels=Labels(values={"a": "#bar"})),
    updates("project_name cannot exceed 64 characters", id=LIVE, name=LONG, description="d" * 301),
    updates("project_description cannot exceed 300 characters", id=LIVE, description="d" * 301),
    updates("Domains are currently only set system wide.", id=LIVE, domains=[Domain(id="d")]),
    Case("GetProject", ProjectGetRequest(), None, "missing project_id"),
    Case(
        "GetProject",
        ProjectGetRequest(id=NOWHERE),
        ("GET", f"projects/{NOWHERE}"),
        f"project [{NOWHERE}] not found",
        MISSING,
    ),
    lists("invalid value for filters", filters="nonsense"),
    lists("unrecognized filter function: like", filters="like(name,a)"),
    lists("'t' entity is not allowed in filters", filters="eq(task.name,a)"),
    lists("'p.color' is invalid filter", filters="eq(color,red)"),
    lists("", filters="eq(state,seven)"),
    lists("", filters="eq(name,a;b)"),
    lists("", filters="gt(created_at,yesterday)"),
    lists("invalid sort key 'color'", sort_by=Sort(key="color")),
    lists("invalid pagination token x for ListProjects", token="x"),
    lists("invalid pagination token -1 for ListProjects", token="-1"),
    # A project's attributes: the check of a project for changes, that for reads for Get.
    Case("UpdateProjectAttributes", ProjectAttributesUpdateRequest(), None, "missing attributes"),
    on_project(
        "Update",
        f"failed to validate that project [{NOWHERE}] is registered, err: [project [{NOWHERE}] not found]",
        NOWHERE,
        matching_attributes=None,
    ),
    on_project("Update", f"project [{GONE}] is not active", GONE, matching_attributes=None),
    on_project("Update", "missing matching_attributes", LIVE, matching_attributes=None),
    on_project(
        "Update",
        f"Unrecognized matching attributes type for request {LIVE}",
        LIVE,
        matching_attributes=NONE_KNOWN,
    ),
    on_project("Delete", f"failed to validate that project [{NOWHERE}] is registered", NOWHERE),
    on_project("Delete", f"project [{GONE}] is not active", GONE),
    on_project("Get", f"failed to validate that project [{NOWHERE}] exists, err: [project [{NOWHERE}] not", NOWHERE),
    on_project("Get", not_found(GONE), GONE, MISSING),
    on_project("Get", not_found(LIVE), LIVE, MISSING),
    # Those of a project-domain and of a workflow: the check of a project-domain, for reads too.
    Case("UpdateProjectDomainAttributes", ProjectDomainAttributesUpdateRequest(), None, "missing attributes"),
    *(on_domain(verb, unregistered(NOWHERE), NOWHERE) for verb in ("Update", "Get", "Delete")),
    *(on_domain(verb, unregistered(""), "") for verb in ("Update", "Get", "Delete")),
    *(on_domain(verb, f"project [{GONE}] is not active", GONE) for verb in ("Update", "Get", "Delete")),
    *(on_domain(verb, "domain [moon] is unrecognized by system", LIVE, "moon") for verb in ("Update", "Get", "Delete")),
    on_domain("Update", "missing matching_attributes", LIVE, matching_attributes=None),
    on_domain(
        "Update",
        f"Unrecognized matching attributes type for request {LIVE}-development",
        LIVE,
        matching_attributes=NONE_KNOWN,
    ),
    on_domain("Get", not_found(LIVE, "development"), LIVE, code=MISSING),
    Case("UpdateWorkflowAttributes", WorkflowAttributesUpdateRequest(), None, "missing attributes"),
    *(on_workflow(verb, unregistered(NOWHERE), NOWHERE) for verb in ("Update", "Get", "Delete")),
    *(on_workflow(verb, f"project [{GONE}] is not active", GONE, "") for verb in ("Update", "Get", "Delete")),
    *(on_workflow(verb, "missing name", LIVE, "") for verb in ("Update", "Get", "Delete")),
    on_workflow("Update", "missing matching_attributes", LIVE, matching_attributes=None),
    on_workflow(
        "Update",
        f"Unrecognized matching attributes type for request {LIVE}-development-w",
        LIVE,
        matching_attributes=NONE_KNOWN,
    ),
    on_workflow("Get", not_found(LIVE, "development", "w"), LIVE, code=MISSING),
    Case(
        "ListMatchableAttributes",
        ListMatchableAttributesRequest(resource_type=99),  # type: ignore[arg-type]  # an unknown kind
        None,
        "invalid value for resource_type",
    ),
]


@pytest.fixture(scope="module", autouse=True)
async def prepared(admin: AdminServiceStub) -> None:
    """Register a project, and one that is archived."""
    for name in (LIVE, GONE):
        await admin.RegisterProject(
            ProjectRegisterRequest(project=Project(id=name, name=name, description="as it was"))
        )
    await admin.UpdateProject(Project(id=GONE, state=Project.ARCHIVED))


@pytest.fixture(scope="module")
def call(admin: AdminServiceStub) -> Callable[[Case], Awaitable[object]]:
    def send(case: Case) -> Awaitable[object]:
        response: Awaitable[object] = getattr(admin, case.rpc)(case.request)
        return response

    return send


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_bad_call_is_refused_by_grpc_and_rest(
    case: Case, call: Callable[[Case], Awaitable[object]], admin: AdminServiceStub, sandbox: Sandbox
) -> None:
    error = await refused(call(case), case.code, case.message)
    if case.rest is not None:
        verb, path = case.rest
        body = json_format.MessageToDict(case.request) if verb in {"POST", "PUT"} else None
        async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
            response = await client.request(verb, path, json=body, params=case.query)
        assert response.status_code == HTTP[case.code], response.text
        assert response.json()["message"] == error.details()
    for name, state in ((LIVE, Project.ACTIVE), (GONE, Project.ARCHIVED)):
        stored = await admin.GetProject(ProjectGetRequest(id=name))
        assert (stored.name, stored.description, stored.state, stored.HasField("labels")) == (
            name,
            "as it was",
            state,
            False,
        )


@pytest.mark.parametrize("verb", ["Update", "Get", "Delete"])
async def test_archived_project_is_named_in_a_detail_of_calls_about_a_domain(
    verb: str, call: Callable[[Case], Awaitable[object]]
) -> None:
    for case in (on_domain(verb, "", GONE), on_workflow(verb, "", GONE)):
        error = await refused(call(case), INVALID)
        assert detail_of(error, InactiveProject()).id == GONE


async def test_quality_of_service_is_stored(admin: AdminServiceStub) -> None:
    matching = MatchingAttributes(quality_of_service=QualityOfService(tier=QualityOfService.HIGH))
    attributes = ProjectDomainAttributes(project=LIVE, domain="staging", matching_attributes=matching)
    await admin.UpdateProjectDomainAttributes(ProjectDomainAttributesUpdateRequest(attributes=attributes))
    request = ProjectDomainAttributesGetRequest(
        project=LIVE, domain="staging", resource_type="QUALITY_OF_SERVICE_SPECIFICATION"
    )
    assert (await admin.GetProjectDomainAttributes(request)).attributes == attributes
