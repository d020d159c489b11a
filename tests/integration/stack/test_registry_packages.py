"""Everything that `pyflyte package` writes can be registered as flytectl does it, through the gateway, twice."""

import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.admin.launch_plan_pb2 import LaunchPlan, LaunchPlanCreateRequest, LaunchPlanState, LaunchPlanUpdateRequest
from flyteidl.admin.task_pb2 import TaskCreateRequest, TaskSpec
from flyteidl.admin.workflow_pb2 import WorkflowCreateRequest, WorkflowSpec
from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.core.workflow_pb2 import WorkflowTemplate
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from grpc import StatusCode
from grpc.aio import AioRpcError

from tests.integration.stack.compiled import as_compiled, bare
from tests.support.entities import DOMAIN, PROJECT
from tests.support.sandbox import ROOT

PACKAGES = ROOT.parent / "shared/data/packages"
PLACEHOLDERS = {
    "project": ("", "{{ registration.project }}", PROJECT),
    "domain": ("", "{{ registration.domain }}", DOMAIN),
    "version": ("", "{{ registration.version }}", "v1"),
}

Request = TaskCreateRequest | WorkflowCreateRequest | LaunchPlanCreateRequest


def requests(package: Path) -> Iterator[Request]:
    """Yield flytectl's requests for the files of a package, in their order: by kind, then by number."""
    with tarfile.open(package) as files:
        members = {Path(member.name).name: member for member in files.getmembers() if member.name.endswith(".pb")}
        for name in sorted(members, key=lambda name: (name[-4], name)):
            file = files.extractfile(members[name])
            assert file is not None
            yield request(name[-4], file.read())


def request(kind: str, content: bytes) -> Request:
    """Return the registration of one file, in the tests' project and domain."""
    if kind == "1":
        task = TaskSpec.FromString(content)
        fill_in(task)
        return TaskCreateRequest(id=task.template.id, spec=task)
    if kind == "2":
        workflow = WorkflowSpec.FromString(content)
        fill_in(workflow)
        return WorkflowCreateRequest(id=workflow.template.id, spec=workflow)
    plan = LaunchPlan.FromString(content)
    fill_in(plan)
    return LaunchPlanCreateRequest(id=plan.id, spec=plan.spec)


def fill_in(message: Message) -> None:
    """Set project, domain and version of every identifier in `message` that has none."""
    if isinstance(message, Identifier):
        for field, (empty, placeholder, value) in PLACEHOLDERS.items():
            if getattr(message, field) in (empty, placeholder):
                setattr(message, field, value)
    for _, value in message.ListFields():
        if isinstance(value, Message):
            values: Iterable[object] = (value,)
        else:
            values = value.values() if isinstance(value, Mapping) else value if isinstance(value, Sequence) else ()
        for inner in values:
            if isinstance(inner, Message):
                fill_in(inner)


async def code_of(admin: AdminServiceStub, registration: Request) -> tuple[StatusCode, str]:
    call = {
        TaskCreateRequest: admin.CreateTask,
        WorkflowCreateRequest: admin.CreateWorkflow,
        LaunchPlanCreateRequest: admin.CreateLaunchPlan,
    }[type(registration)]
    try:
        await call(registration)
    except AioRpcError as error:
        return error.code(), error.details() or ""
    return StatusCode.OK, ""


@pytest.mark.skipif(not PACKAGES.is_dir(), reason="the conformance data is not here (shared/data/packages)")
@pytest.mark.parametrize("package", ["flytesnacks-core.tgz", "valid-register.tgz"])
async def test_package_is_registered_and_already_exists_the_second_time(admin: AdminServiceStub, package: str) -> None:
    # In the package's own order, in which dependencies come first.
    registrations = list(requests(PACKAGES / package))
    assert registrations
    met: set[bytes] = set()
    for registration in registrations:
        code, text = await code_of(admin, registration)
        # Some packages contain a task twice.
        again = (key := registration.id.SerializeToString()) in met
        assert code is (StatusCode.ALREADY_EXISTS if again else StatusCode.OK), (registration.id.name, text)
        met.add(key)
    for registration in registrations:
        code, text = await code_of(admin, registration)
        assert code is StatusCode.ALREADY_EXISTS, (registration.id.name, text)
    for registration in registrations:
        await read_back(admin, registration)


async def read_back(admin: AdminServiceStub, sent: Request) -> None:
    """Check that an entity is read as it was sent, and that a launch plan can be activated."""
    get_request = ObjectGetRequest(id=sent.id)
    if isinstance(sent, TaskCreateRequest):
        task = await admin.GetTask(get_request)
        assert task.closure.compiled_task.template == sent.spec.template
    elif isinstance(sent, WorkflowCreateRequest):
        closure = (await admin.GetWorkflow(get_request)).closure.compiled_workflow
        assert bare(plain(closure.primary.template)) == as_compiled(plain(sent.spec.template))
        templates = sorted((sub.template for sub in closure.sub_workflows), key=name_of)
        expected = sorted(sent.spec.sub_workflows, key=name_of)
        assert [bare(plain(template)) for template in templates] == [
            as_compiled(plain(template)) for template in expected
        ]
    else:
        switch = LaunchPlanUpdateRequest(id=sent.id, state=LaunchPlanState.ACTIVE)
        switch.id.ClearField("resource_type")  # as flytectl sends it
        await admin.UpdateLaunchPlan(switch)
        plan = await admin.GetLaunchPlan(get_request)
        assert plan.closure.state == LaunchPlanState.ACTIVE
        # Inputs of the workflow that the plan does not set are added to it (registry.md#expected-inputs).
        assert plan.spec.default_inputs == plan.closure.expected_inputs
        plan.spec.default_inputs.CopyFrom(sent.spec.default_inputs)
        assert plan.spec == sent.spec


def plain(message: Message) -> dict[str, Any]:
    """Return a message as JSON."""
    return MessageToDict(message, preserving_proto_field_name=True)


def name_of(template: WorkflowTemplate) -> str:
    return str(template.id.name)
