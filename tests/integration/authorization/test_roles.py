"""Roles at running services behind a real gateway: every RPC with every role, with tokens of a real provider."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import pytest
from flyteidl.admin.event_pb2 import NodeExecutionEventRequest, WorkflowExecutionEventRequest
from flyteidl.admin.execution_pb2 import (
    Execution,
    ExecutionCreateRequest,
    ExecutionTerminateRequest,
    WorkflowExecutionGetMetricsRequest,
    WorkflowExecutionGetRequest,
)
from flyteidl.admin.project_pb2 import Project, ProjectListRequest, ProjectRegisterRequest
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, ResourceType, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf import text_format
from google.protobuf.message import Message

from gateway.bootstrap import Settings
from gateway.clusters import Address
from services.contracts.authorization.methods import ACCESS
from services.contracts.authorization.roles import Role
from tests.support.authorization import OTHER, SCOPE, allowed, binding, cases, policy_text, request_of
from tests.support.callers import SECRET
from tests.support.entities import DOMAIN, PROJECT, identifier, launch_plan, task, task_node, workflow
from tests.support.envoy import running_gateway
from tests.support.event_makers import node_event, workflow_event
from tests.support.oidc.provider import AUDIENCE, Provider, running_provider
from tests.support.parts import Parts, free_port, service
from tests.support.refusals import code_of, refused

_Request = TypeVar("_Request", bound=Message)

DENIED = grpc.StatusCode.PERMISSION_DENIED
_CALL_SECONDS = 30
PROJECTS = ("mine", "others", "mine-too", "archived")


@dataclass
class Plane:
    """The four services with one policy, behind a gateway with login."""

    channel: grpc.aio.Channel
    provider: Provider
    objects: str
    tokens: dict[str, str] = field(default_factory=dict)

    def headers(self, subject: str) -> tuple[tuple[str, str], ...]:
        """Return the headers of a call by `subject`."""
        if subject not in self.tokens:
            self.tokens[subject] = self.provider.token(subject)
        return (("authorization", f"Bearer {self.tokens[subject]}"),)

    async def call(self, path: str, request: Message, subject: str) -> Any:
        """Call a method as `subject`."""
        call = self.channel.unary_unary(path, lambda message: message.SerializeToString(), bytes)
        return await call(request, metadata=self.headers(subject), timeout=_CALL_SECONDS)

    def admin(self, subject: str) -> AdminServiceStub:
        """Return a stub whose calls are those of `subject`."""
        channel, headers = self.channel, self.headers(subject)

        class _Channel:
            def unary_unary(self, path: str, **options: Any) -> Any:
                method = channel.unary_unary(path, options["request_serializer"], options["response_deserializer"])
                return lambda request: method(request, metadata=headers, timeout=_CALL_SECONDS)

        return AdminServiceStub(_Channel())


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with running_provider() as running:
        running.expires_in = 3600  # longer than a busy machine takes for all calls
        yield running


@pytest.fixture(scope="module")
async def plane(parts: Parts, provider: Provider) -> AsyncIterator[Plane]:
    policy, secret, folder = (parts.folder / f"roles-{name}" for name in ("policy.yaml", "secret", "gateway"))
    policy.write_text(
        policy_text(
            *map(binding, Role),
            binding("admin", ("*", "*"), subjects=["root"]),
            binding("engine", ("*", "*"), subjects=["propeller"]),
            binding("launcher", subjects=["ann"]),
            binding("viewer", ("mine*", "*"), subjects=["bob"]),
        )
    )
    secret.write_text(SECRET)
    folder.mkdir()
    objects = f"file://{parts.folder / 'roles-objects'}"
    shared: dict[str, Any] = {"authorization_policy": policy, "gateway_secret": SECRET}
    own: dict[str, dict[str, Any]] = {
        "projects": {"auth_issuer": provider.issuer},
        "registry": {"objects_url": objects},
        "executions": {"objects_url": objects, "signing_key": "key"},
        "events": {"objects_url": objects},
    }
    async with AsyncExitStack() as stack:
        served = {
            name: await stack.enter_async_context(service(name, parts, f"roles_{name}", **shared, **settings))
            for name, settings in own.items()
        }
        port = free_port()
        settings = Settings(
            listen=Address("127.0.0.1", port),
            admin=Address("127.0.0.1", free_port()),
            upstreams={name: [Address.parse(each.settings.http2_address)] for name, each in served.items()},
            gateway_secret_file=secret,
            auth_issuer=provider.issuer,
            auth_audiences=[AUDIENCE],
            auth_jwks_url=provider.keys_url,
        )
        await stack.enter_async_context(running_gateway(folder, settings))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        plane = Plane(channel, provider, objects)
        for project in PROJECTS:
            state = Project.ARCHIVED if project == "archived" else Project.ACTIVE
            request = ProjectRegisterRequest(project=Project(id=project, name=project, state=state))
            await plane.admin("root").RegisterProject(request)
        yield plane


@pytest.mark.parametrize("role", Role)
async def test_every_rpc_is_allowed_to_the_roles_of_its_table_in_their_scope_alone(plane: Plane, role: Role) -> None:
    wrong = []
    for path, child in cases():
        for within in (True, False):
            request = request_of(path, SCOPE if within else OTHER, plane.objects, child=child)
            code = await code_of(plane.call(path, request, str(role)))
            assert code not in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAUTHENTICATED}
            if (code is not DENIED) is not allowed(path, role, within=within, child=child):
                wrong.append((path, within, child, code))
    assert wrong == []
    assert {path for path, _ in cases()} == ACCESS.keys()


async def test_denial_does_not_show_whether_something_exists(plane: Plane) -> None:
    await _launched(plane, "ann", "present")
    messages = set()
    for name in ("present", "absent"):
        call = plane.admin("stranger").GetExecution(WorkflowExecutionGetRequest(id=_id(name)))
        messages.add((await refused(call, DENIED)).details())
    (message,) = messages
    assert message == (
        'permission denied: "stranger" (client "flytekit") needs the role viewer in '
        'project "mine", domain "development"'
    )


async def test_list_of_projects_has_those_of_the_caller_on_every_page(plane: Plane) -> None:
    async def listed(subject: str, **request: Any) -> tuple[list[str], str]:
        response = await plane.admin(subject).ListProjects(ProjectListRequest(**request))
        return sorted(project.id for project in response.projects), response.token

    assert (await listed("bob"))[0] == ["mine", "mine-too"]
    assert (await listed("viewer"))[0] == ["mine"]
    assert {"mine", "mine-too", "others"} <= set((await listed("root"))[0])
    first, token = await listed("bob", limit=1)
    second, end = await listed("bob", limit=1, token=token)
    assert sorted(first + second) == ["mine", "mine-too"]
    assert (await listed("bob", limit=1, token=end))[0] == []
    assert (await listed("bob", filters="value_in(identifier,others;mine)"))[0] == ["mine"]
    await refused(plane.admin("stranger").ListProjects(ProjectListRequest()), DENIED)


async def test_child_of_an_engine_has_the_principal_of_its_parent(plane: Plane) -> None:
    await _launched(plane, "ann", "parent")
    await _started_node(plane, "parent")
    child = await _launched(plane, "propeller", "child", parent="parent")
    assert child.spec.metadata.principal == "ann"
    assert child.spec.security_context.run_as.execution_identity == "ann"
    own = await _launched(plane, "launcher", "own", parent="parent")
    assert own.spec.metadata.principal == "launcher"


async def test_engine_stops_children_alone(plane: Plane) -> None:
    await _launched(plane, "ann", "above")
    await _started_node(plane, "above")
    await _launched(plane, "propeller", "below", parent="above")
    engine = plane.admin("propeller")
    await refused(engine.TerminateExecution(ExecutionTerminateRequest(id=_id("above"))), DENIED, "none")
    await engine.TerminateExecution(ExecutionTerminateRequest(id=_id("below"), cause="failed"))
    stopped: Execution = await engine.GetExecution(WorkflowExecutionGetRequest(id=_id("below")))
    assert stopped.closure.abort_metadata.principal == "propeller"


async def test_metrics_are_denied_for_a_child_in_a_project_that_the_caller_may_not_read(plane: Plane) -> None:
    await _registered(plane)
    await _launched(plane, "ann", "crossing")
    events = plane.admin("propeller")
    for node, phase in (("start-node", "SUCCEEDED"), ("n0", "RUNNING")):
        event = node_event(phase, node=node)
        event.id.execution_id.CopyFrom(_id("crossing"))
        if node == "n0":
            event.workflow_node_metadata.execution_id.CopyFrom(
                WorkflowExecutionIdentifier(project="others", domain=DOMAIN, name="elsewhere")
            )
        await events.CreateNodeEvent(NodeExecutionEventRequest(event=event))
    request = WorkflowExecutionGetMetricsRequest(id=_id("crossing"), depth=-1)
    metrics = plane.admin("ann").GetExecutionMetrics(request)
    await refused(metrics, DENIED, 'viewer in project "others"')


async def test_large_request_that_names_another_project_at_its_end_is_denied(plane: Plane) -> None:
    request = workflow("large", {}, {}, [task_node(f"n{number}", "t") for number in range(2000)], [])
    request = _in_mine(request)
    assert request.ByteSize() > 64 * 1024
    contributor = plane.admin("contributor")
    await refused(contributor.CreateWorkflow(request), grpc.StatusCode.INVALID_ARGUMENT)
    request.spec.template.nodes[-1].task_node.reference_id.project = "others"
    await refused(contributor.CreateWorkflow(request), DENIED, 'viewer in project "others"')


def _id(name: str) -> WorkflowExecutionIdentifier:
    return WorkflowExecutionIdentifier(project="mine", domain=DOMAIN, name=name)


def _in_mine(request: _Request) -> _Request:
    """Return a request about the project `mine` instead of that of the tests' entities, in every field."""
    text = text_format.MessageToString(request).replace(f'"{PROJECT}"', f'"{SCOPE[0]}"')
    return text_format.Parse(text, type(request)())


async def _registered(plane: Plane) -> None:
    """Register a task, a workflow with a node for a launch plan, and launch plans of both, unless they are there."""
    admin = plane.admin("contributor")
    plain = task("t", {}, {})
    inner = workflow("inner", {}, {}, [task_node("n0", "t")], [])
    inner_plan = launch_plan("inner", "inner")
    outer = workflow("wf", {}, {}, [task_node("n0", "t")], [])
    outer_plan = launch_plan("lp", "wf")
    node = outer.spec.template.nodes[0]
    node.workflow_node.launchplan_ref.CopyFrom(identifier(ResourceType.LAUNCH_PLAN, "inner"))
    for call, request in (
        (admin.CreateTask, plain),
        (admin.CreateWorkflow, inner),
        (admin.CreateLaunchPlan, inner_plan),
        (admin.CreateWorkflow, outer),
        (admin.CreateLaunchPlan, outer_plan),
    ):
        assert await code_of(call(_in_mine(request))) in {grpc.StatusCode.OK, grpc.StatusCode.ALREADY_EXISTS}


async def _launched(plane: Plane, subject: str, name: str, parent: str = "") -> Execution:
    await _registered(plane)
    request = ExecutionCreateRequest(project="mine", domain=DOMAIN, name=name, inputs=LiteralMap())
    request.spec.launch_plan.CopyFrom(identifier(ResourceType.LAUNCH_PLAN, "lp"))
    request = _in_mine(request)
    if parent:
        node = NodeExecutionIdentifier(node_id="n0", execution_id=_id(parent))
        request.spec.metadata.parent_node_execution.CopyFrom(node)
    admin = plane.admin(subject)
    await admin.CreateExecution(request)
    launched: Execution = await admin.GetExecution(WorkflowExecutionGetRequest(id=_id(name)))
    return launched


async def _started_node(plane: Plane, name: str) -> None:
    events = plane.admin("propeller")
    started = workflow_event("RUNNING")
    started.execution_id.CopyFrom(_id(name))
    await events.CreateWorkflowEvent(WorkflowExecutionEventRequest(event=started))
    event = node_event("RUNNING")
    event.id.execution_id.CopyFrom(_id(name))
    await events.CreateNodeEvent(NodeExecutionEventRequest(event=event))
