"""Workflows as clients of the registry see them: over gRPC, with the real projects service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from flyteidl.admin.common_pb2 import (
    NamedEntityIdentifier,
    NamedEntityIdentifierListRequest,
    ObjectGetRequest,
    ResourceListRequest,
)
from flyteidl.admin.workflow_pb2 import (
    CreateWorkflowFailureReason,
    WorkflowClosure,
    WorkflowCreateRequest,
)
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.core.literals_pb2 import Binding, BindingData, Primitive, Scalar
from flyteidl.core.types_pb2 import SimpleType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.contracts.registry import GET_TASK_LAUNCH_PLAN, LOCATE_WORKFLOW_CLOSURE
from services.kit.errors import InvalidArgument, NotFound
from services.kit.messaging.bus import Bus
from tests.support.entities import DOMAIN, INTEGER, PROJECT, identifier, launch_plan, promise, task, task_node
from tests.support.entities import workflow as workflow_of
from tests.support.parts import Parts, Served, service
from tests.support.refusals import code_of, detail_of, refused

OK = grpc.StatusCode.OK
ALREADY_EXISTS = grpc.StatusCode.ALREADY_EXISTS
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
ONE = Scalar(primitive=Primitive(integer=1))

pytestmark = pytest.mark.usefixtures("served")


@pytest.fixture(scope="module")
async def served(parts: Parts) -> AsyncIterator[Served]:
    objects = f"file://{parts.folder}/registry-workflows"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service("projects", parts, "registry_workflows_projects"))
        yield await stack.enter_async_context(
            service("registry", parts, "registry_workflows", objects_url=objects, max_workflow_nodes=3)
        )


@pytest.fixture(scope="module")
async def admin(served: Served) -> AdminServiceStub:
    stub = AdminServiceStub(served.channel)
    await stub.CreateTask(task("double", {"x": INTEGER}, {"o0": INTEGER}))
    return stub


def workflow(name: str, version: str = "v1", nodes: int = 1) -> WorkflowCreateRequest:
    """Return the registration of a chain of tasks that double their input."""
    chain = [
        task_node(f"n{i}", "double", promise("x", f"n{i - 1}" if i else "", "o0" if i else "x")) for i in range(nodes)
    ]
    outputs = [promise("o0", f"n{nodes - 1}", "o0")]
    return workflow_of(name, {"x": INTEGER}, {"o0": INTEGER}, chain, outputs, version=version)


def with_large_sub_workflow(name: str) -> WorkflowCreateRequest:
    """Return a workflow of few nodes with a sub-workflow of many, which do not count."""
    request, inner = workflow(name), workflow(f"{name}.inner", nodes=12000).spec.template
    outer = request.spec.template.nodes.add(id="sub", inputs=[promise("x", "", "x")])
    outer.workflow_node.sub_workflow_ref.CopyFrom(inner.id)
    request.spec.sub_workflows.append(inner)
    return request


def get_request(name: str, version: str = "v1", kind: ResourceType = ResourceType.WORKFLOW) -> ObjectGetRequest:
    return ObjectGetRequest(id=identifier(kind, name, version))


class TestCreate:
    async def test_get_workflow_returns_the_compiled_workflow(self, admin: AdminServiceStub) -> None:
        request = workflow("whole")
        request.spec.description.short_description = "doubles"
        await admin.CreateWorkflow(request)
        found = await admin.GetWorkflow(get_request("whole"))
        assert found.id == identifier(ResourceType.WORKFLOW, "whole")
        compiled = found.closure.compiled_workflow
        assert [node.id for node in compiled.primary.template.nodes] == ["start-node", "end-node", "n0"]
        assert [item.template.id.name for item in compiled.tasks] == ["double"]
        assert found.closure.HasField("created_at")
        assert found.short_description == "doubles"

    async def test_same_workflow_again_is_already_exists(self, admin: AdminServiceStub) -> None:
        await admin.CreateWorkflow(workflow("same"))
        again = workflow("same")
        # Another request for the same structure, which is compiled again.
        again.spec.description.short_description = "not part of the structure"
        for request in (workflow("same"), again):
            error = await refused(
                admin.CreateWorkflow(request), ALREADY_EXISTS, "workflow with identical structure already exists"
            )
            detail = detail_of(error, CreateWorkflowFailureReason())
            assert detail.exists_identical_structure.id == request.id

    async def test_another_structure_is_invalid_argument_with_a_diff(self, admin: AdminServiceStub) -> None:
        await admin.CreateWorkflow(workflow("changed"))
        error = await refused(
            admin.CreateWorkflow(workflow("changed", nodes=2)),
            INVALID_ARGUMENT,
            "changed workflow with different structure already exists. "
            "(Please register a new version of the workflow):\n/primary/connections/",
        )
        detail = detail_of(error, CreateWorkflowFailureReason())
        assert detail.exists_different_structure.id == identifier(ResourceType.WORKFLOW, "changed")
        assert (
            len((await admin.GetWorkflow(get_request("changed"))).closure.compiled_workflow.primary.template.nodes) == 3
        )

    async def test_concurrent_registrations_succeed_once(self, admin: AdminServiceStub) -> None:
        codes = await asyncio.gather(*(code_of(admin.CreateWorkflow(workflow("raced"))) for _ in range(6)))
        assert sorted(codes, key=lambda code: code.name) == [ALREADY_EXISTS] * 5 + [OK]

    async def test_concurrent_different_workflows_leave_one_whole(self, admin: AdminServiceStub) -> None:
        codes = await asyncio.gather(
            *(code_of(admin.CreateWorkflow(workflow("raced-apart", nodes=i))) for i in (1, 2, 3))
        )
        assert sorted(codes, key=lambda code: code.name) == [INVALID_ARGUMENT] * 2 + [OK]
        nodes = (await admin.GetWorkflow(get_request("raced-apart"))).closure.compiled_workflow.primary.template.nodes
        assert len(nodes) - 2 == codes.index(OK) + 1

    async def test_value_without_json_form_is_refused(self, admin: AdminServiceStub) -> None:
        request = workflow("timeless")
        request.spec.template.nodes[0].metadata.timeout.seconds = 10**15
        await refused(admin.CreateWorkflow(request), INVALID_ARGUMENT, "invalid value for timeout: a duration of more")

    async def test_missing_task_is_invalid_argument(self, admin: AdminServiceStub) -> None:
        request = workflow("dangling")
        request.spec.template.nodes[0].task_node.reference_id.name = "nothing"
        await refused(
            admin.CreateWorkflow(request),
            INVALID_ARGUMENT,
            'failed to compile workflow for [project:"flytesnacks" domain:"development" name:"dangling" version:"v1"] '
            "with err: missing entity of type TASK with identifier",
        )

    async def test_workflow_that_does_not_compile_is_invalid_argument_with_all_errors(
        self, admin: AdminServiceStub
    ) -> None:
        request = workflow("unbound")
        del request.spec.template.nodes[0].inputs[:]
        await refused(admin.CreateWorkflow(request), INVALID_ARGUMENT, "with err: Collected Errors: ")

    async def test_launch_plan_may_be_a_node(self, admin: AdminServiceStub) -> None:
        await admin.CreateWorkflow(workflow("inner"))
        await admin.CreateLaunchPlan(launch_plan("inner", "inner"))
        request = workflow("outer")
        node = request.spec.template.nodes[0]
        node.workflow_node.launchplan_ref.CopyFrom(identifier(ResourceType.LAUNCH_PLAN, "inner"))
        await admin.CreateWorkflow(request)
        node.workflow_node.launchplan_ref.name = "nothing"
        request.id.version = "v2"
        await refused(admin.CreateWorkflow(request), INVALID_ARGUMENT, "missing entity of type LAUNCH_PLAN")

    async def test_launch_plan_may_be_referred_to_with_an_organisation_or_without_its_type(
        self, admin: AdminServiceStub
    ) -> None:
        await admin.CreateWorkflow(workflow("referred"))
        await admin.CreateLaunchPlan(launch_plan("referred", "referred"))
        request = workflow("referring")
        reference = request.spec.template.nodes[0].workflow_node.launchplan_ref
        reference.CopyFrom(identifier(ResourceType.LAUNCH_PLAN, "referred"))
        reference.org = "an organisation"
        await admin.CreateWorkflow(request)
        reference.ClearField("org")
        reference.ClearField("resource_type")
        request.id.version = "v2"
        await admin.CreateWorkflow(request)

    async def test_workflow_nested_too_deeply_is_invalid_argument_and_not_stored(self, admin: AdminServiceStub) -> None:
        """Both what the compiler refuses and what parsers cannot read."""
        codes = set()
        for depth in range(1, 110):
            request = workflow("deep", version=f"v{depth}")
            of = request.spec.template.interface.inputs.variables["x"].type
            for _ in range(depth):
                of = of.collection_type
            of.simple = SimpleType.NONE
            del request.spec.template.nodes[0].inputs[:]
            request.spec.template.nodes[0].inputs.append(Binding(var="x", binding=BindingData(scalar=ONE)))
            code = await code_of(admin.CreateWorkflow(request))
            codes.add(code)
            if code != OK:
                await refused(admin.GetWorkflow(get_request("deep", f"v{depth}")), NOT_FOUND, "missing entity")
        assert codes == {OK, INVALID_ARGUMENT}

    async def test_other_calls_return_while_large_workflows_are_compiled(self, admin: AdminServiceStub) -> None:
        """More at once than there are threads; on the event loop each would delay all other calls until its end."""
        large = [
            asyncio.create_task(code_of(admin.CreateWorkflow(with_large_sub_workflow(f"large{i}")))) for i in range(4)
        ]
        responses = 0
        while not all(call.done() for call in large):
            await admin.GetTask(get_request("double", kind=ResourceType.TASK))
            responses += 1
        assert [call.result() for call in large] == [OK] * 4
        # Compiled on the event loop they would let one or two calls through each.
        assert responses > 10

    async def test_too_many_nodes_are_refused(self, admin: AdminServiceStub) -> None:
        await refused(admin.CreateWorkflow(workflow("long", nodes=4)), INVALID_ARGUMENT, "exceeds limit (4 > 3)")
        uncompilable = workflow("long", nodes=4)
        uncompilable.spec.template.nodes[3].task_node.reference_id.name = "nowhere"
        await refused(admin.CreateWorkflow(uncompilable), INVALID_ARGUMENT, "exceeds limit (4 > 3)")

    async def test_create_workflow_checks_in_order(self, admin: AdminServiceStub) -> None:
        await refused(admin.CreateWorkflow(WorkflowCreateRequest()), INVALID_ARGUMENT, "missing id")
        request = WorkflowCreateRequest(id=identifier(ResourceType.WORKFLOW, "n", project="nowhere"))
        await refused(admin.CreateWorkflow(request), INVALID_ARGUMENT, "project [nowhere]")
        request.id.project = PROJECT
        await refused(admin.CreateWorkflow(request), INVALID_ARGUMENT, "missing spec")


class TestGet:
    async def test_type_is_implied_but_another_one_is_refused(self, admin: AdminServiceStub) -> None:
        await admin.CreateWorkflow(workflow("typed"))
        found = await admin.GetWorkflow(get_request("typed", kind=ResourceType.UNSPECIFIED))
        assert found.id == identifier(ResourceType.WORKFLOW, "typed")
        await refused(
            admin.GetWorkflow(get_request("typed", kind=ResourceType.TASK)),
            INVALID_ARGUMENT,
            "unexpected resource type task",
        )

    async def test_missing_workflow_is_not_found(self, admin: AdminServiceStub) -> None:
        await refused(
            admin.GetWorkflow(get_request("missing")), NOT_FOUND, "missing entity of type WORKFLOW with identifier"
        )

    async def test_lost_closure_is_internal(self, admin: AdminServiceStub, bus: Bus) -> None:
        await admin.CreateWorkflow(workflow("lost"))
        blob = await bus.request(LOCATE_WORKFLOW_CLOSURE, get_request("lost"))
        await asyncio.to_thread(Path(blob.url.removeprefix("file://")).unlink)
        await refused(
            admin.GetWorkflow(get_request("lost")),
            grpc.StatusCode.INTERNAL,
            "Unable to read WorkflowClosure from location",
        )

    async def test_list_workflows_returns_interfaces_only(self, admin: AdminServiceStub) -> None:
        request = workflow("light")
        await admin.CreateWorkflow(request)
        named = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name="light")
        (listed,) = (await admin.ListWorkflows(ResourceListRequest(id=named, limit=9))).workflows
        whole = await admin.GetWorkflow(get_request("light"))
        assert (listed.id, listed.closure.created_at) == (whole.id, whole.closure.created_at)
        primary = listed.closure.compiled_workflow.primary
        assert primary.template.interface == request.spec.template.interface
        assert not primary.template.nodes
        assert not primary.template.HasField("id")

    async def test_names_of_generated_workflows_are_listed_too(self, admin: AdminServiceStub, bus: Bus) -> None:
        await bus.request(GET_TASK_LAUNCH_PLAN, get_request("double", kind=ResourceType.TASK))
        request = NamedEntityIdentifierListRequest(project=PROJECT, domain=DOMAIN, limit=100)
        names = [entity.name for entity in (await admin.ListWorkflowIds(request)).entities]
        assert ".flytegen.double" in names

    async def test_locate_workflow_closure_returns_the_object(self, admin: AdminServiceStub, bus: Bus) -> None:
        await admin.CreateWorkflow(workflow("located"))
        whole = await admin.GetWorkflow(get_request("located"))
        blob = await bus.request(LOCATE_WORKFLOW_CLOSURE, get_request("located"))
        content = await asyncio.to_thread(Path(blob.url.removeprefix("file://")).read_bytes)
        assert len(content) == blob.bytes
        assert WorkflowClosure.FromString(content).compiled_workflow == whole.closure.compiled_workflow
        with pytest.raises(NotFound):
            await bus.request(LOCATE_WORKFLOW_CLOSURE, get_request("missing"))
        with pytest.raises(InvalidArgument):
            await bus.request(LOCATE_WORKFLOW_CLOSURE, get_request("located", version=""))


class TestSingleTask:
    async def test_task_gets_a_workflow_and_a_launch_plan_of_its_own(self, admin: AdminServiceStub, bus: Bus) -> None:
        await admin.CreateTask(task("pkg.single", {"x": INTEGER}, {"o0": INTEGER}))
        request = get_request("pkg.single", kind=ResourceType.TASK)
        plans = await asyncio.gather(*(bus.request(GET_TASK_LAUNCH_PLAN, request) for _ in range(4)))
        assert all(plan == plans[0] for plan in plans)
        assert plans[0].id == identifier(ResourceType.LAUNCH_PLAN, ".flytegen.pkg.single")
        assert plans[0].spec.workflow_id == identifier(ResourceType.WORKFLOW, "pkg.single")
        assert plans[0].closure.expected_inputs.parameters["x"].required
        workflow_id = ObjectGetRequest(id=identifier(ResourceType.WORKFLOW, ".flytegen.pkg.single"))
        template = (await admin.GetWorkflow(workflow_id)).closure.compiled_workflow.primary.template
        assert [node.id for node in template.nodes] == ["start-node", "end-node", "pkgsingle"]
        assert await bus.request(GET_TASK_LAUNCH_PLAN, request) == plans[0]

    async def test_workflow_that_an_earlier_release_generated_differently_is_used(
        self, admin: AdminServiceStub, bus: Bus
    ) -> None:
        request = task("pkg.older", {"x": INTEGER}, {"o0": INTEGER})
        request.spec.template.metadata.interruptible = True
        await admin.CreateTask(request)
        node = task_node("pkgolder", "pkg.older", promise("x", "", "x"))
        bindings = [promise("o0", "pkgolder", "o0")]
        await admin.CreateWorkflow(
            workflow_of(".flytegen.pkg.older", {"x": INTEGER}, {"o0": INTEGER}, [node], bindings)
        )
        plan = await bus.request(GET_TASK_LAUNCH_PLAN, get_request("pkg.older", kind=ResourceType.TASK))
        assert plan.id == identifier(ResourceType.LAUNCH_PLAN, ".flytegen.pkg.older")

    async def test_missing_task_is_not_found(self, bus: Bus) -> None:
        with pytest.raises(NotFound, match="missing entity of type TASK"):
            await bus.request(GET_TASK_LAUNCH_PLAN, get_request("missing", kind=ResourceType.TASK))


async def test_workflow_of_too_large_tasks_is_refused(admin: AdminServiceStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.registry.rules.workflows.MAX_LIBRARY_BYTES", 2000)
    for name, size in (("long", 1500), ("longer", 1500)):
        request = task(name, {}, {})
        request.spec.template.metadata.discovery_version = "v" * size
        await admin.CreateTask(request)
    await admin.CreateWorkflow(workflow_of("one_large", {}, {}, [task_node("n0", "long")], []))
    both = workflow_of("two_large", {}, {}, [task_node("n0", "long"), task_node("n1", "longer")], [])
    await refused(admin.CreateWorkflow(both), INVALID_ARGUMENT, "bytes together, more than 2000")
