"""Everything that `pyflyte package` writes can be registered as flytectl does it, twice."""

import tarfile
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.admin.launch_plan_pb2 import LaunchPlan, LaunchPlanCreateRequest, LaunchPlanState, LaunchPlanUpdateRequest
from flyteidl.admin.task_pb2 import TaskCreateRequest, TaskSpec
from flyteidl.admin.workflow_pb2 import WorkflowCreateRequest, WorkflowSpec
from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf.message import Message

from tests.support.entities import DOMAIN, PROJECT
from tests.support.parts import Parts, service

PACKAGES = Path(__file__).parents[2].parent / "shared/data/packages"
PLACEHOLDERS = {
    "project": ("", "{{ registration.project }}", PROJECT),
    "domain": ("", "{{ registration.domain }}", DOMAIN),
    "version": ("", "{{ registration.version }}", "v1"),
}

Request = TaskCreateRequest | WorkflowCreateRequest | LaunchPlanCreateRequest


@pytest.fixture(scope="module")
async def admin(parts: Parts) -> AsyncIterator[AdminServiceStub]:
    objects = f"file://{parts.folder}/registry-packages"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service("projects", parts, "registry_packages_projects"))
        registry = await stack.enter_async_context(service("registry", parts, "registry_packages", objects_url=objects))
        yield AdminServiceStub(registry.channel)


def requests(package: Path) -> Iterator[Request]:
    """What flytectl makes of the files of a package, in their order: by kind, then by number."""
    with tarfile.open(package) as files:
        members = {Path(member.name).name: member for member in files.getmembers() if member.name.endswith(".pb")}
        for name in sorted(members, key=lambda name: (name[-4], name)):
            file = files.extractfile(members[name])
            assert file is not None
            yield request(name[-4], file.read())


def request(kind: str, content: bytes) -> Request:
    """The registration of one file, placed in our project and domain."""
    if kind == "1":
        task = TaskSpec.FromString(content)
        place(task)
        return TaskCreateRequest(id=task.template.id, spec=task)
    if kind == "2":
        workflow = WorkflowSpec.FromString(content)
        place(workflow)
        return WorkflowCreateRequest(id=workflow.template.id, spec=workflow)
    plan = LaunchPlan.FromString(content)
    place(plan)
    return LaunchPlanCreateRequest(id=plan.id, spec=plan.spec)


def place(message: Message) -> None:
    """Fill project, domain and version of every identifier in `message` that leaves them open."""
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
                place(inner)


async def code_of(admin: AdminServiceStub, registration: Request) -> tuple[grpc.StatusCode, str]:
    call = {
        TaskCreateRequest: admin.CreateTask,
        WorkflowCreateRequest: admin.CreateWorkflow,
        LaunchPlanCreateRequest: admin.CreateLaunchPlan,
    }[type(registration)]
    try:
        await call(registration)
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


@pytest.mark.skipif(not PACKAGES.is_dir(), reason="the conformance data is not here (shared/data/packages)")
@pytest.mark.parametrize("package", ["flytesnacks-core.tgz", "valid-register.tgz"])
async def test_package_registers_and_registers_again(admin: AdminServiceStub, package: str) -> None:
    # Some packages hold a task twice; once is enough here.
    registrations = {registration.id.SerializeToString(): registration for registration in requests(PACKAGES / package)}
    assert registrations
    # In the package's own order, in which what is needed comes before what needs it.
    for expected in (grpc.StatusCode.OK, grpc.StatusCode.ALREADY_EXISTS):
        for registration in registrations.values():
            code, text = await code_of(admin, registration)
            assert code is expected, (registration.id.name, text)
    for registration in registrations.values():
        question = ObjectGetRequest(id=registration.id)
        if isinstance(registration, TaskCreateRequest):
            task = await admin.GetTask(question)
            assert task.closure.compiled_task.template == registration.spec.template
        elif isinstance(registration, WorkflowCreateRequest):
            workflow = await admin.GetWorkflow(question)
            assert workflow.closure.compiled_workflow.primary.template.id == registration.id
        else:
            await admin.UpdateLaunchPlan(LaunchPlanUpdateRequest(id=registration.id, state=LaunchPlanState.ACTIVE))
            assert (await admin.GetLaunchPlan(question)).closure.state == LaunchPlanState.ACTIVE
