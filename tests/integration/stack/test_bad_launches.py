"""Bad launches, relaunches and recoveries through the gateway, by gRPC and REST: code, message, nothing stored.

The order of the cases is that of the checks (executions.md#createexecution-validation, executions.md#execution-inputs,
executions.md#execution-metadata-and-parent, executions.md#labels-annotations-and-clusters,
executions.md#relaunchexecution-and-recoverexecution).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest
from flyteidl.admin.common_pb2 import Notification
from flyteidl.admin.execution_pb2 import (
    ExecutionCreateRequest,
    ExecutionRecoverRequest,
    ExecutionRelaunchRequest,
    ExecutionSpec,
    WorkflowExecutionGetRequest,
)
from flyteidl.admin.project_pb2 import InactiveProject, Project, ProjectRegisterRequest
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.core.identifier_pb2 import Identifier, ResourceType, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import Literal, Primitive, Scalar
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.entities import DOMAIN, PROJECT, identifier, literals
from tests.support.executions import execution_id, node_id
from tests.support.refusals import detail_of, refused
from tests.support.sandbox import Sandbox

INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
HTTP = {INVALID: 400, MISSING: 404}
PATHS = {
    "CreateExecution": "executions",
    "RelaunchExecution": "executions/relaunch",
    "RecoverExecution": "executions/recover",
}
PLUMS = identifier(ResourceType.LAUNCH_PLAN, "stack.plums")
NAME = "badlaunch"
ENDLESS = Duration(seconds=10**15)

Change = Callable[[ExecutionCreateRequest], object]


@dataclass(frozen=True)
class Case:
    rpc: str
    request: Message
    code: grpc.StatusCode
    message: str

    def __str__(self) -> str:
        return f"{self.rpc}: {self.message[:50]}"


def create(message: str, *changes: Change, code: grpc.StatusCode = INVALID) -> Case:
    """Return a launch of `stack.plums` that is valid except for `changes`."""
    request = ExecutionCreateRequest(
        project=PROJECT, domain=DOMAIN, name=NAME, spec=ExecutionSpec(launch_plan=PLUMS), inputs=literals(count=1)
    )
    for change in changes:
        change(request)
    return Case("CreateExecution", request, code, message)


def put(path: str, value: Any) -> Change:
    """Set the field at `path`."""

    def change(request: ExecutionCreateRequest) -> None:
        *outer, last = path.split(".")
        message: Any = request
        for name in outer:
            message = getattr(message, name)
        setattr(message, last, value)

    return change


def without(field: str) -> Change:
    return lambda request: request.ClearField(field)


def give(name: str, literal: Literal) -> Change:
    return lambda request: request.inputs.literals[name].CopyFrom(literal)


def give_in_spec(literal: Literal) -> Change:
    return lambda request: request.spec.inputs.literals["count"].CopyFrom(literal)


def primitive(**value: Any) -> Literal:
    return Literal(scalar=Scalar(primitive=Primitive(**value)))


def listed(*inner: Literal) -> Literal:
    literal = Literal()
    literal.collection.literals.extend(inner)
    return literal


def not_finite() -> Literal:
    literal = Literal()
    literal.scalar.generic.update({"x": math.nan})
    return literal


def blob() -> Literal:
    literal = Literal()
    literal.scalar.blob.uri = "s3://nowhere"
    return literal


def notify(*recipients: str, phase: WorkflowExecution.Phase = WorkflowExecution.FAILED, kind: str = "email") -> Change:
    notification = Notification(phases=[phase])
    if kind:
        getattr(notification, kind).recipients_email.extend(recipients)
        getattr(notification, kind).SetInParent()
    return lambda request: request.spec.notifications.notifications.append(notification)


def label(key: str, value: str) -> Change:
    return lambda request: request.spec.labels.values.update({key: value})


def again(rpc: str, message: str, code: grpc.StatusCode = INVALID, **id_: str) -> Case:
    kinds = {"RelaunchExecution": ExecutionRelaunchRequest, "RecoverExecution": ExecutionRecoverRequest}
    request = kinds[rpc](id=WorkflowExecutionIdentifier(**id_) if id_ else None, name=NAME)
    return Case(rpc, request, code, message)


LATE = primitive(datetime=Timestamp(seconds=10**15))
CASES = [
    create("missing project", without("project")),
    create("missing domain", without("domain"), put("name", "B A D")),
    create("size of name exceeded length 63", put("name", "a" * 64), put("project", "nothing")),
    create("size of name exceeded length 63", put("name", "ä" * 32)),
    create("invalid name format: no spaces, does not match regex", put("name", "no spaces")),
    create("invalid name format: Upper", put("name", "Upper")),
    create("invalid name format: ünder", put("name", "ünder")),
    create("invalid name format: 名前", put("name", "名前")),
    create("invalid name format: 1a", put("name", "1a")),
    create("failed to validate that project [nothing] and domain", put("project", "nothing"), without("spec")),
    create("project [badlaunch-gone] is not active", put("project", "badlaunch-gone"), put("domain", "nowhere")),
    create("domain [nowhere] is unrecognized by system", put("domain", "nowhere"), without("spec")),
    create("missing spec", without("spec"), give("x", Literal())),
    create("missing id", lambda r: r.spec.ClearField("launch_plan")),
    create("missing project", put("spec.launch_plan.project", "")),
    create("missing domain", put("spec.launch_plan.domain", "")),
    create("missing name", put("spec.launch_plan.name", "")),
    create("missing version", put("spec.launch_plan.version", ""), put("spec.launch_plan.resource_type", 2)),
    create("Invalid reference entity resource type", put("spec.launch_plan.resource_type", 2)),
    create("Invalid reference entity resource type", put("spec.launch_plan.resource_type", 0)),
    create("missing key in inputs", give("", primitive(integer=1)), notify()),
    create("missing valid literal in inputs x", give("x", Literal())),
    create("after 9999-12-31", give("x", LATE)),
    create(
        "before 0001-01-01",
        give("a", primitive(datetime=Timestamp(seconds=1))),
        give("x", listed(primitive(datetime=Timestamp(seconds=-(10**15))))),
    ),
    create("missing recipients", notify(), label("-", "x")),
    create("missing recipient", notify("a@example.com", "")),
    create("missing recipient", notify("", kind="slack")),
    create("missing recipients", notify(kind="pager_duty")),
    create("invalid value for notification type", notify(kind="")),
    create("invalid value for phase", notify("a@example.com", phase=WorkflowExecution.RUNNING)),
    create("labels map cannot exceed 16 entries", *(label(f"k{number}", "") for number in range(17))),
    create("invalid label key [-]", label("-", "x")),
    create("invalid label key [a/b/c]", label("a/b/c", "x")),
    create("invalid label value [#bar]", label("foo", "#bar")),
    create("exceeds 255 bytes", lambda r: r.spec.tags.append("t" * 256)),
    create("invalid value for tags", lambda r: r.spec.tags.append("a\0b")),
    create(
        "invalid value for scheduled_at", lambda r: r.spec.metadata.scheduled_at.MergeFrom(Timestamp(seconds=10**15))
    ),
    create(
        "invalid value for queueing_budget", lambda r: r.spec.quality_of_service.spec.queueing_budget.CopyFrom(ENDLESS)
    ),
    create("invalid value for duration", without("inputs"), give_in_spec(primitive(duration=ENDLESS))),
    create("a number that is not finite", without("inputs"), give_in_spec(not_finite())),
    create("missing entity of type LAUNCH_PLAN", put("spec.launch_plan.name", "no"), give("x", blob()), code=MISSING),
    create("missing entity of type TASK", put("spec.launch_plan.resource_type", 1), code=MISSING),
    create("invalid input x", give("x", primitive(integer=1)), give("count", primitive(string_value=""))),
    create("fixed_inputs unit cannot be overridden", give("unit", primitive(string_value="pears"))),
    create("Failed to validate literal type for [count]", give("count", blob())),
    create(
        "invalid count input wrong type. Expected simple:INTEGER, but got simple:STRING",
        give("count", primitive(string_value="1")),
    ),
    create(
        "missing entity of type node execution",
        lambda r: r.spec.metadata.parent_node_execution.CopyFrom(node_id("absent", "n0")),
        code=MISSING,
    ),
    *(
        case
        for rpc in ("RelaunchExecution", "RecoverExecution")
        for case in (
            again(rpc, "missing id"),
            again(rpc, "missing project", domain=DOMAIN, name="n"),
            again(rpc, "missing name", project=PROJECT, domain=DOMAIN),
            again(rpc, "missing entity of type execution", MISSING, project=PROJECT, domain=DOMAIN, name="never"),
        )
    ),
]


@pytest.fixture(scope="module", autouse=True)
async def prepared(admin: AdminServiceStub, plums: Identifier) -> None:
    """Register the launch plan, and a project that is archived."""
    assert plums == PLUMS
    gone = Project(id="badlaunch-gone", name="gone")
    await admin.RegisterProject(ProjectRegisterRequest(project=gone))
    await admin.UpdateProject(Project(id=gone.id, name=gone.name, state=Project.ARCHIVED))


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_bad_launch_is_refused_by_grpc_and_rest(case: Case, admin: AdminServiceStub, sandbox: Sandbox) -> None:
    error = await refused(getattr(admin, case.rpc)(case.request), case.code, case.message)
    try:
        body = json_format.MessageToDict(case.request)
    except (ValueError, json_format.SerializeToJsonError):
        return  # it cannot be sent over REST
    async with httpx.AsyncClient(base_url=f"{sandbox.url}/api/v1/") as client:
        response = await client.post(PATHS[case.rpc], json=body)
    assert response.status_code == HTTP[case.code], response.text
    assert response.json()["message"] == error.details()
    await refused(admin.GetExecution(WorkflowExecutionGetRequest(id=execution_id(NAME))), MISSING)
    assert not list((sandbox.folder / "objects" / "metadata" / PROJECT / DOMAIN).glob(f"{NAME}*"))


async def test_launch_in_an_archived_project_has_the_detail_for_the_scheduler(admin: AdminServiceStub) -> None:
    request = create("", put("project", "badlaunch-gone")).request
    error = await refused(admin.CreateExecution(request), INVALID, "is not active")
    assert detail_of(error, InactiveProject()).id == "badlaunch-gone"


@pytest.mark.parametrize("rpc", ["RelaunchExecution", "RecoverExecution"])
async def test_relaunch_and_recovery_make_every_check_again(rpc: str, admin: AdminServiceStub) -> None:
    request = ExecutionCreateRequest(project=PROJECT, domain=DOMAIN, spec=ExecutionSpec(launch_plan=PLUMS))
    source = (await admin.CreateExecution(request)).id
    again_ = {"RelaunchExecution": ExecutionRelaunchRequest, "RecoverExecution": ExecutionRecoverRequest}[rpc]
    call = getattr(admin, rpc)
    await refused(call(again_(id=source, name="Upper")), INVALID, "invalid name format")
    await refused(call(again_(id=source, name=source.name)), grpc.StatusCode.ALREADY_EXISTS)
