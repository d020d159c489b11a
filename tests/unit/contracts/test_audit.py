"""How the audit log names what a call is about."""

from typing import Any

import pytest
from flyteidl.admin.execution_pb2 import ExecutionCreateResponse
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from flyteidl.service.dataproxy_pb2 import CreateUploadLocationResponse

from gateway import routes
from services.contracts.audit import CHANGES, resource_of
from services.contracts.authorization.methods import ACCESS
from tests.support.authorization import request_of

ADMIN = "/flyteidl.service.AdminService/"


def test_changes_are_the_writes_of_the_gateway_without_events() -> None:
    writes = {f"/{method.name}" for method in routes.load().methods if method.kind == "write"}
    assert writes - CHANGES == {f"{ADMIN}Create{kind}Event" for kind in ("Workflow", "Node", "Task")}
    assert writes >= CHANGES


@pytest.mark.parametrize("path", [path for path, access in ACCESS.items() if access.project])
def test_every_request_about_a_project_is_named_by_it(path: str) -> None:
    assert resource_of(path, request_of(path), None).startswith("mine")


@pytest.mark.parametrize(
    ("name", "fields", "text"),
    [
        ("CreateTask", {"id.name": "t", "id.version": "v1"}, "mine/development/t/v1"),
        ("CreateExecution", {"name": "e"}, "mine/development/e"),
        ("TerminateExecution", {"id.name": "e"}, "mine/development/e"),
        ("UpdateWorkflowAttributes", {"attributes.workflow": "w"}, "mine/development/w"),
        ("GetNodeExecution", {"id.execution_id.name": "e", "id.node_id": "n0"}, "mine/development/e/n0"),
        ("UpdateProject", {}, "mine"),
    ],
)
def test_names_of_requests(name: str, fields: dict[str, str], text: str) -> None:
    request = request_of(ADMIN + name)
    for path, value in fields.items():
        *messages, last = path.split(".")
        inner: Any = request
        for each in messages:
            inner = getattr(inner, each)
        setattr(inner, last, value)
    assert resource_of(ADMIN + name, request, None) == text


def test_launch_is_about_the_execution_that_it_made_and_upload_about_its_uri() -> None:
    path = f"{ADMIN}CreateExecution"
    made = WorkflowExecutionIdentifier(project="mine", domain="development", name="generated")
    assert resource_of(path, request_of(path), ExecutionCreateResponse(id=made)) == "mine/development/generated"
    assert resource_of(path, request_of(path), b"serialized") == "mine/development"
    path = "/flyteidl.service.DataProxyService/CreateUploadLocation"
    assert resource_of(path, request_of(path), CreateUploadLocationResponse(native_url="s3://b/f")) == "s3://b/f"


def test_projects_are_named_by_their_id() -> None:
    path = f"{ADMIN}RegisterProject"
    request = request_of(path)
    request.project.id = "new"
    assert resource_of(path, request, None) == "new"
