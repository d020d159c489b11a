"""Decisions on calls: every RPC, with every role, inside and outside of the scope of the role."""

import pytest
from flyteidl.admin.execution_pb2 import ExecutionCreateRequest
from flyteidl.admin.project_pb2 import ProjectListRequest
from flyteidl.service.identity_pb2 import UserInfoRequest

from gateway import routes
from services.contracts.authorization.methods import ACCESS, Access, Reach, compiled_methods
from services.contracts.authorization.policy import parse_policy
from services.contracts.authorization.roles import Role
from services.kit.errors import PermissionDenied
from services.kit.rpc.callers import ANONYMOUS
from tests.support.authorization import (
    OTHER,
    SCOPE,
    allowed,
    authorizer_with,
    binding,
    cases,
    named,
    policy_text,
    request_of,
)

ADMIN = "/flyteidl.service.AdminService/"
# The paths of this one are known to executions only (test_object_scopes).
SIGNS = "/flyteidl.service.DataProxyService/CreateDownloadLocation"


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("within", [True, False])
def test_every_method_is_allowed_to_the_roles_of_its_table_in_their_scope_alone(role: Role, within: bool) -> None:
    authorizer = authorizer_with(binding(role), **{SIGNS: lambda request: [tuple(request.native_url.split("/")[2:4])]})
    wrong = []
    for path, child in cases():
        request = request_of(path, SCOPE if within else OTHER, child=child)
        try:
            authorizer.authorize(path, request, named(str(role)))
        except PermissionDenied:
            decided = False
        else:
            decided = True
        if decided is not allowed(path, role, within=within, child=child):
            wrong.append((path, child, decided))
    assert wrong == []


def test_callers_without_a_binding_and_unknown_callers_may_call_public_methods_alone() -> None:
    authorizer = authorizer_with(*map(binding, Role))
    open_to: dict[str, set[str]] = {"stranger": set(), "": set()}
    for caller in (named("stranger"), ANONYMOUS):
        for path, child in cases():
            try:
                authorizer.authorize(path, request_of(path, child=child), caller)
            except PermissionDenied:
                continue
            open_to[caller.subject].add(path.rpartition("/")[2])
    public = {"GetOAuth2Metadata", "GetPublicClientConfig"}
    assert open_to == {"stranger": public | {"UserInfo", "GetVersion"}, "": public}


def test_whole_projects_and_all_projects_need_the_role_in_all_domains() -> None:
    everywhere = binding("admin", ("*", "*"), subjects=["root"])
    of_project = binding("admin", ("mine", "*"), subjects=["owner"])
    domains = [binding("admin", ("mine", domain), subjects=["sum"]) for domain in ("development", "production")]
    authorizer = authorizer_with(everywhere, of_project, *domains)
    expected = {"UpdateProject": {"root", "owner"}, "RegisterProject": {"root"}, "ListMatchableAttributes": {"root"}}
    for name, subjects in expected.items():
        path = ADMIN + name
        for subject in ("root", "owner", "sum"):
            try:
                authorizer.authorize(path, request_of(path), named(subject))
            except PermissionDenied:
                assert subject not in subjects, name
            else:
                assert subject in subjects, name


def test_list_without_a_project_or_a_domain_needs_the_role_in_all_of_them() -> None:
    authorizer = authorizer_with(binding("viewer"), binding("viewer", ("mine", "*"), subjects=["owner"]))
    path = f"{ADMIN}ListLaunchPlanIds"
    for scope in (("", "development"), ("", ""), ("mine", "")):
        with pytest.raises(PermissionDenied):
            authorizer.authorize(path, request_of(path, scope), named("viewer"))
    assert authorizer.authorize(path, request_of(path, ("mine", "")), named("owner")) == Role.VIEWER


def test_denial_names_caller_role_and_scope() -> None:
    authorizer = authorizer_with(binding("viewer", subjects=["ann"]))
    request = ExecutionCreateRequest(project="mine", domain="development")
    with pytest.raises(PermissionDenied) as denied:
        authorizer.authorize(f"{ADMIN}CreateExecution", request, named("ann", "flytectl"))
    assert denied.value.message == (
        'permission denied: "ann" (client "flytectl") needs the role launcher in project "mine", domain "development"'
    )
    request.project, request.spec.launch_plan.project = "mine", "x" * 10_000
    with pytest.raises(PermissionDenied) as denied:
        authorizer.authorize(f"{ADMIN}CreateExecution", request, named("ann\nforged"))
    assert len(denied.value.message) < 500
    assert "\n" not in denied.value.message


def test_launch_refers_to_a_launch_plan_of_another_project_only_with_the_viewer_role_there() -> None:
    request = request_of(f"{ADMIN}CreateExecution")
    request.spec.launch_plan.project, request.spec.launch_plan.domain = OTHER
    both = [binding("launcher", subjects=["ann"]), binding("viewer", OTHER, subjects=["ann"])]
    assert authorizer_with(*both).authorize(f"{ADMIN}CreateExecution", request, named("ann")) == Role.LAUNCHER
    with pytest.raises(PermissionDenied, match='viewer in project "others", domain "development", which the request'):
        authorizer_with(both[0]).authorize(f"{ADMIN}CreateExecution", request, named("ann"))


def test_child_is_the_engines_and_other_calls_are_the_callers_own() -> None:
    authorizer = authorizer_with(
        binding("engine", subjects=["both"]), binding("admin", subjects=["both"]), binding("engine")
    )
    child = request_of(f"{ADMIN}CreateExecution", child=True)
    assert authorizer.authorize(f"{ADMIN}CreateExecution", child, named("both")) == Role.ENGINE
    terminate = f"{ADMIN}TerminateExecution"
    assert authorizer.authorize(terminate, request_of(terminate), named("both")) == Role.LAUNCHER
    assert authorizer.authorize(terminate, request_of(terminate), named("engine")) == Role.ENGINE


def test_engine_launches_no_child_of_an_execution_elsewhere() -> None:
    authorizer = authorizer_with(binding("engine"), binding("viewer", OTHER, subjects=["engine"]))
    request = request_of(f"{ADMIN}CreateExecution", child=True)
    request.spec.metadata.parent_node_execution.execution_id.project = OTHER[0]
    with pytest.raises(PermissionDenied):
        authorizer.authorize(f"{ADMIN}CreateExecution", request, named("engine"))


def test_changed_policy_decides_at_once() -> None:
    authorizer = authorizer_with(binding("viewer", subjects=["ann"]))
    path, ann = f"{ADMIN}GetTask", named("ann")
    assert authorizer.authorize(path, request_of(path), ann) == Role.VIEWER
    authorizer.use(parse_policy(policy_text()))
    with pytest.raises(PermissionDenied):
        authorizer.authorize(path, request_of(path), ann)


def test_equal_ids_of_callers_that_are_gone_give_no_caller_their_roles() -> None:
    authorizer = authorizer_with(binding("admin", subjects=["root"]))
    path = f"{ADMIN}GetTask"
    for _ in range(3000):  # a freed object's id is soon that of another
        authorizer.authorize(path, request_of(path), named("root"))
        with pytest.raises(PermissionDenied):
            authorizer.authorize(path, request_of(path), named("ann"))


def test_visible_projects_are_those_with_the_viewer_role_in_some_domain() -> None:
    bindings = [
        binding("viewer", ("team-*", "development"), subjects=["ann"]),
        binding("admin", ("a_b", "*"), subjects=["ann"]),
        binding("engine", ("*", "*"), subjects=["ann"]),
        binding("viewer", ("*", "production"), subjects=["root"]),
    ]
    authorizer = authorizer_with(*bindings)
    assert authorizer.visible_projects(named("ann")) == ("a\\_b", "team-%")
    assert authorizer.visible_projects(named("root")) is None
    assert authorizer.visible_projects(named("stranger")) == ()
    path = f"{ADMIN}ListProjects"
    assert authorizer.authorize(path, ProjectListRequest(), named("ann")) == Role.VIEWER
    with pytest.raises(PermissionDenied, match="viewer in any project"):
        authorizer.authorize(path, ProjectListRequest(), named("stranger"))


def test_service_does_not_start_with_a_table_that_does_not_fit_flyteidl() -> None:
    path = f"{ADMIN}GetTask"
    with pytest.raises(ValueError, match="GetTask"):
        compiled_methods({}, {other: access for other, access in ACCESS.items() if other != path})
    with pytest.raises(ValueError, match="has no text name_of_project"):
        compiled_methods({}, {**ACCESS, path: Access(Role.VIEWER, "id.name_of_project")})
    with pytest.raises(ValueError, match="has no message identifier"):
        compiled_methods({}, {**ACCESS, path: Access(Role.VIEWER, "identifier.project")})


def test_methods_that_change_something_are_the_writes_of_the_gateway() -> None:
    kinds = {f"/{method.name}": method.kind for method in routes.load().methods}
    assert {path: "write" if access.changes else "read" for path, access in ACCESS.items()} == kinds


def test_no_change_is_allowed_to_viewers_and_events_are_the_engines_alone() -> None:
    for path, access in ACCESS.items():
        if access.changes:
            assert access.role is not Role.VIEWER, path
        if path.endswith("Event"):
            assert access.role is Role.ENGINE, path
        if access.reach is not Reach.SCOPE:
            assert not access.changes, path


def test_user_info_is_for_every_known_caller() -> None:
    authorizer = authorizer_with()
    path = "/flyteidl.service.IdentityService/UserInfo"
    assert authorizer.authorize(path, UserInfoRequest(), named("ann")) == ""
    with pytest.raises(PermissionDenied, match="not known"):
        authorizer.authorize(path, UserInfoRequest(), ANONYMOUS)
