"""The history that the benchmark of the registry makes is read like entities that were registered."""

import grpc
import pytest
from flyteidl.admin.common_pb2 import NamedEntityIdentifier, ObjectGetRequest, ResourceListRequest
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from bench.fill_registry import NAME, fill, filled_name
from bench.registry_calls import models
from bench.stack import SCOPE
from tests.support.refusals import codes, refused
from tests.support.sandbox import Sandbox

VERSIONS = 9
KINDS = {
    "Task": ResourceType.TASK,
    "Workflow": ResourceType.WORKFLOW,
    "LaunchPlan": ResourceType.LAUNCH_PLAN,
}


@pytest.fixture(autouse=True)
async def registered(admin: AdminServiceStub) -> None:
    """Register the entities that history is copied from."""
    for method, request in models(SCOPE):
        (code,) = await codes([getattr(admin, method)(request)])
        assert code in {grpc.StatusCode.OK, grpc.StatusCode.ALREADY_EXISTS}  # by another test


async def test_filled_versions_are_read_one_by_one_and_in_lists(sandbox: Sandbox, admin: AdminServiceStub) -> None:
    fill(sandbox.folder, VERSIONS - 4)
    fill(sandbox.folder, VERSIONS)
    for kind, resource_type in KINDS.items():
        for number in range(VERSIONS):
            identifier = Identifier(
                resource_type=resource_type,
                project=SCOPE.project,
                domain=SCOPE.domain,
                name=filled_name(number),
                version=f"v{number:07}",
            )
            entity = await getattr(admin, f"Get{kind}")(ObjectGetRequest(id=identifier))
            assert entity.id == identifier
        where = NamedEntityIdentifier(project=SCOPE.project, domain=SCOPE.domain, name=NAME)
        page = await getattr(admin, f"List{kind}s")(ResourceListRequest(id=where, limit=100))
        (listed,) = [list(value) for field, value in page.ListFields() if field.name != "token"]
        assert [entity.id.version for entity in listed] == ["v0000000", *(f"v{n:07}" for n in range(1, VERSIONS, 2))]
        times = [entity.closure.created_at.ToDatetime() for entity in listed]
        assert times == sorted(times, reverse=True)
        assert len(set(times)) == len(times)


async def test_filled_launch_plan_has_the_workflow_of_its_number(sandbox: Sandbox, admin: AdminServiceStub) -> None:
    fill(sandbox.folder, VERSIONS)
    identifier = Identifier(
        resource_type=ResourceType.LAUNCH_PLAN,
        project=SCOPE.project,
        domain=SCOPE.domain,
        name=filled_name(4),
        version="v0000004",
    )
    plan = await admin.GetLaunchPlan(ObjectGetRequest(id=identifier))
    workflow = await admin.GetWorkflow(ObjectGetRequest(id=plan.spec.workflow_id))
    assert (workflow.id.name, workflow.id.version) == (identifier.name, identifier.version)
    where = NamedEntityIdentifier(project=SCOPE.project, domain=SCOPE.domain)
    filters = f"eq(workflow.name,{identifier.name})+eq(workflow.version,{identifier.version})+eq(state,1)"
    listed = await admin.ListLaunchPlans(ResourceListRequest(id=where, limit=10, filters=filters))
    assert [listed_plan.id for listed_plan in listed.launch_plans] == [identifier]
    gone = ObjectGetRequest(id=Identifier(project=SCOPE.project, domain=SCOPE.domain, name=NAME, version="v9999999"))
    await refused(admin.GetTask(gone), grpc.StatusCode.NOT_FOUND)
