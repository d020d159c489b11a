"""Property: a request that names another project in any field is allowed by no policy that grants one project."""

from typing import Any

import pytest
from flyteidl.admin.workflow_pb2 import WorkflowCreateRequest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from services.contracts.authorization.methods import ACCESS, Reach
from services.contracts.authorization.references import references
from services.contracts.authorization.roles import Role
from services.kit.errors import PermissionDenied
from services.kit.protobuf.readable import map_value
from tests.support.authorization import METHODS, OTHER, SCOPE, authorizer_with, binding, launches, named, request_of

# A recursive type is entered this often on the way to a name.
_MOST_LEVELS = 12

_Path = tuple[str, ...]


def _names(message_type: Descriptor) -> bool:
    return {"project", "domain"} <= set(message_type.fields_by_name.keys())


def _paths(message_type: Descriptor, seen: tuple[str, ...] = ()) -> list[_Path]:
    """Return paths of fields to messages that name a project-domain; a type is entered once on each."""
    found: list[_Path] = []
    for field in message_type.fields:
        inner = map_value(field) or field.message_type
        if inner is None or inner.full_name in seen or len(seen) > _MOST_LEVELS:
            continue
        if _names(inner):
            found.append((field.name,))
        found += [(field.name, *rest) for rest in _paths(inner, (*seen, inner.full_name))]
    return found


def _descend(message: Any, path: _Path) -> Any:
    for name in path:
        field: FieldDescriptor = message.DESCRIPTOR.fields_by_name[name]
        members = getattr(message, name)
        if map_value(field) is not None:
            message = members["key"]
        elif field.is_repeated:
            message = members.add()
        else:
            members.SetInParent()
            message = members
    return message


NAMED = {path: _paths(method.input_type) for path, method in METHODS.items()}
CASES = [(path, fields) for path, many in NAMED.items() for fields in many]


def test_there_are_paths_to_check() -> None:
    assert len(CASES) > 100
    assert ("spec", "launch_plan") in NAMED["/flyteidl.service.AdminService/CreateExecution"]


@pytest.mark.parametrize("path", [path for path, fields in NAMED.items() if fields])
def test_request_that_names_another_project_in_any_field_is_denied(path: str) -> None:
    """One by one, each path to a name; the rest of the request is about the scope of the roles."""
    authorizer = authorizer_with(*(binding(role, subjects=["all"]) for role in Role))
    if ACCESS[path].reach is Reach.PUBLIC:
        return
    wrong = []
    for fields in NAMED[path]:
        request = request_of(path, child=path in launches())
        name = _descend(request, fields)
        name.project, name.domain = OTHER
        try:
            authorizer.authorize(path, request, named("all"))
        except PermissionDenied:
            continue
        wrong.append(".".join(fields))
    assert wrong == []


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CASES), st.sampled_from([OTHER, ("mine", "production"), ("others", ""), ("mine", "")]))
def test_names_of_the_own_scope_are_allowed_and_any_other_is_denied(
    case: tuple[str, _Path], other: tuple[str, str]
) -> None:
    path, fields = case
    authorizer = authorizer_with(*(binding(role, subjects=["all"]) for role in Role))
    request = request_of(path, child=path in launches())
    name = _descend(request, fields)
    name.project, name.domain = SCOPE
    if ACCESS[path].domain:
        authorizer.authorize(path, request, named("all"))
    name.project, name.domain = other
    with pytest.raises(PermissionDenied):
        authorizer.authorize(path, request, named("all"))


def test_references_are_found_in_nested_and_repeated_messages() -> None:
    request = WorkflowCreateRequest()
    request.id.project, request.id.domain = SCOPE
    node = request.spec.sub_workflows.add().nodes.add()
    node.branch_node.if_else.case.then_node.task_node.reference_id.project = "a"
    node.branch_node.if_else.case.then_node.task_node.reference_id.domain = "b"
    deep = request.spec.template.nodes.add()
    for _ in range(30):
        deep = deep.branch_node.if_else.other.add().then_node
    deep.workflow_node.launchplan_ref.project = "c"
    assert references(request) == {SCOPE, ("a", "b"), ("c", "")}
