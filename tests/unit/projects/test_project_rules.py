"""What may be registered as a project, what an update changes, and what is stored."""

import pytest
from flyteidl.admin.common_pb2 import Labels
from flyteidl.admin.project_pb2 import Domain, Project, ProjectRegisterRequest

from services.kit.errors import InvalidArgument
from services.projects.rules.projects import (
    already_exists,
    check_id_given,
    check_project,
    check_register,
    domains_suffix,
    not_found,
    seeded,
    stored_project,
    updated,
)

BAD_CHARACTERS = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
DOMAINS_REFUSED = "Domains are currently only set system wide. Please retry without domains included."


def project(**changes: object) -> Project:
    fields: dict[str, object] = {"id": "potato", "name": "spud"}
    return Project(**{**fields, **changes})  # type: ignore[arg-type]  # fields of one message, mixed


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ProjectRegisterRequest(), "missing project"),
        (ProjectRegisterRequest(project=Project()), "missing project_name"),
        (ProjectRegisterRequest(project=Project(name="spud")), "missing project_id"),
        (ProjectRegisterRequest(project=project(id="Potato")), f"invalid project id [Potato]: [{BAD_CHARACTERS}]"),
        (ProjectRegisterRequest(project=project(id="-a")), f"invalid project id [-a]: [{BAD_CHARACTERS}]"),
        (ProjectRegisterRequest(project=project(id="a-")), f"invalid project id [a-]: [{BAD_CHARACTERS}]"),
        (ProjectRegisterRequest(project=project(id="a.b")), "invalid project id [a.b]: [must not contain dots]"),
        (ProjectRegisterRequest(project=project(id="a\n")), f"invalid project id [a\n]: [{BAD_CHARACTERS}]"),
        (ProjectRegisterRequest(project=project(id="\u0663")), f"invalid project id [\u0663]: [{BAD_CHARACTERS}]"),
        (
            ProjectRegisterRequest(project=project(id="a" * 64)),
            f"invalid project id [{'a' * 64}]: [must be no more than 63 characters]",
        ),
        (
            ProjectRegisterRequest(project=project(id="A" * 64)),
            f"invalid project id [{'A' * 64}]: [must be no more than 63 characters {BAD_CHARACTERS}]",
        ),
        (ProjectRegisterRequest(project=project(name="n" * 65)), "project_name cannot exceed 64 characters"),
        (ProjectRegisterRequest(project=project(name="é" * 33)), "project_name cannot exceed 64 characters"),
        (
            ProjectRegisterRequest(project=project(description="d" * 301)),
            "project_description cannot exceed 300 characters",
        ),
        (ProjectRegisterRequest(project=project(domains=[Domain(id="development")])), DOMAINS_REFUSED),
    ],
)
def test_invalid_registration_is_reported_with_the_field(request_: ProjectRegisterRequest, message: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_register(request_)
    assert refused.value.message == message


@pytest.mark.parametrize(
    "accepted",
    [
        project(),
        project(id="a" * 63, name="n" * 64, description="d" * 300),
        project(id="0-9", name="é" * 32),
        project(labels=Labels()),
        project(labels=Labels(values={"team": "spuds", "example.com/tier": ""})),
        project(state=Project.ARCHIVED),
    ],
)
def test_valid_project_may_be_registered(accepted: Project) -> None:
    check_register(ProjectRegisterRequest(project=accepted))


def test_errors_come_in_the_order_of_flyteadmin() -> None:
    wrong: dict[str, object] = {
        "name": "",
        "id": "",
        "labels": Labels(values={"foo": "#bar"}),
        "description": "d" * 301,
        "domains": [Domain(id="development")],
    }
    repairs: list[dict[str, object]] = [
        {"name": "n" * 65},
        {"id": "POTATO"},
        {"labels": None},
        {"id": "potato"},
        {"name": "spud"},
        {"description": ""},
        {"domains": []},
    ]
    messages = []
    for repair in repairs:
        with pytest.raises(InvalidArgument) as refused:
            check_register(ProjectRegisterRequest(project=project(**wrong)))
        messages.append(refused.value.message.partition(" [")[0])
        wrong |= repair
    assert messages == [
        "missing project_name",
        "missing project_id",
        "invalid label value",
        "invalid project id",
        "project_name cannot exceed 64 characters",
        "project_description cannot exceed 300 characters",
        DOMAINS_REFUSED,
    ]


def test_update_may_leave_the_name_out() -> None:
    check_project(Project(id="potato"))


def test_update_has_the_checks_of_registration() -> None:
    with pytest.raises(InvalidArgument, match=r"^missing project_id$"):
        check_project(Project(name="spud"))
    with pytest.raises(InvalidArgument, match=r"^Domains are currently only set system wide"):
        check_project(project(domains=[Domain(id="development")]))


def test_empty_id_is_missing() -> None:
    with pytest.raises(InvalidArgument, match=r"^missing project_id$"):
        check_id_given("")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            Project(id="potato", name="tuber"),
            project(name="tuber", description="root", labels=Labels(values={"a": "b"}), state=Project.ARCHIVED),
        ),
        (
            Project(id="potato", description="leaf"),
            project(description="leaf", labels=Labels(values={"a": "b"}), state=Project.ARCHIVED),
        ),
        (
            Project(id="potato", labels=Labels(values={"c": "d"})),
            project(description="root", labels=Labels(values={"c": "d"}), state=Project.ARCHIVED),
        ),
        (Project(id="potato", labels=Labels()), project(description="root", labels=Labels())),
        (
            Project(id="potato", state=Project.SYSTEM_GENERATED),
            project(description="root", labels=Labels(values={"a": "b"}), state=Project.SYSTEM_GENERATED),
        ),
        (
            Project(id="potato", name="tuber", state=Project.SYSTEM_GENERATED),
            project(name="tuber", description="root", labels=Labels(values={"a": "b"}), state=Project.SYSTEM_GENERATED),
        ),
        (Project(id="potato"), project(description="root", labels=Labels(values={"a": "b"}))),
        (Project(id="potato", org="acme"), project(description="root", labels=Labels(values={"a": "b"}))),
        (
            project(description="root", labels=Labels(values={"a": "b"})),
            project(description="root", labels=Labels(values={"a": "b"})),
        ),
    ],
    ids=[
        "name",
        "description",
        "labels",
        "no labels",
        "state",
        "name and state",
        "nothing",
        "organisation",
        "the same",
    ],
)
def test_update_changes_what_is_set_and_reactivates_only_when_nothing_else_is(
    change: Project, expected: Project
) -> None:
    current = project(description="root", labels=Labels(values={"a": "b"}), state=Project.ARCHIVED)
    before = Project.FromString(current.SerializeToString())
    assert updated(current, change) == expected
    assert current == before


def test_stored_project_has_neither_domains_nor_organisation() -> None:
    given = project(org="acme", domains=[Domain(id="development")], description="root", state=Project.ARCHIVED)
    assert stored_project(given) == project(description="root", state=Project.ARCHIVED)


@pytest.mark.parametrize("state", [2, 3, 77, -1])
def test_any_state_is_stored_as_given(state: int) -> None:
    given = Project.FromString(project(state=state).SerializeToString())
    assert stored_project(given).state == state


def test_labels_that_were_never_set_stay_absent() -> None:
    assert not stored_project(project()).HasField("labels")
    assert stored_project(project(labels=Labels())).HasField("labels")


def test_stored_project_with_the_suffix_has_every_domain_in_order() -> None:
    domains = [Domain(id="b", name="B"), Domain(id="a", name="A")]
    stored = project(state=Project.ARCHIVED, labels=Labels(values={"a": "b"})).SerializeToString()
    complete = Project.FromString(stored + domains_suffix(domains))
    assert list(complete.domains) == domains
    assert stored_project(complete) == Project.FromString(stored)


def test_seeded_project_has_name_and_description_of_its_id() -> None:
    assert seeded("flytesnacks") == Project(id="flytesnacks", name="flytesnacks", description="flytesnacks description")


def test_errors_have_the_texts_of_flyteadmin() -> None:
    assert not_found("potato").message == "project [potato] not found"
    assert already_exists().message == (
        'value with matching already exists (duplicate key value violates unique constraint "projects_pkey")'
    )
