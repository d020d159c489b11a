"""Errors of other services about a project and its domain (projects.md#check-of-a-project-domain)."""

import pytest
from flyteidl.admin.project_pb2 import Domain, InactiveProject, Project

from services.contracts.projects import (
    GET_PROJECT,
    PROJECT_REGISTERED,
    PROJECT_UPDATED,
    check_active_with_domain,
    namespace_of,
    unregistered,
)
from services.kit.errors import InvalidArgument, NotFound

DOMAINS = [Domain(id="development"), Domain(id="production")]


def test_active_project_and_configured_domain_are_valid() -> None:
    check_active_with_domain(Project(id="potato", domains=DOMAINS), "production")


@pytest.mark.parametrize("state", [Project.ARCHIVED, Project.SYSTEM_GENERATED, Project.SYSTEM_ARCHIVED])
def test_inactive_project_is_invalid_argument_with_the_detail_for_the_scheduler(
    state: Project.ProjectState,
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_active_with_domain(Project(id="potato", state=state, domains=DOMAINS), "nowhere")
    assert refused.value.message == "project [potato] is not active"
    assert refused.value.details == (InactiveProject(id="potato"),)


@pytest.mark.parametrize("domain", ["nowhere", "", "Development"])
def test_unknown_domain_is_refused(domain: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_active_with_domain(Project(id="potato", domains=DOMAINS), domain)
    assert refused.value.message == f"domain [{domain}] is unrecognized by system"
    assert refused.value.details == ()


def test_missing_project_is_invalid_argument_for_the_caller() -> None:
    error = unregistered("potato", "development", NotFound("project [potato] not found"))
    assert error.message == (
        "failed to validate that project [potato] and domain [development] are registered, "
        "err: [project [potato] not found]"
    )


def test_stream_of_announcements_does_not_store_service_requests() -> None:
    assert PROJECT_REGISTERED.owner == PROJECT_UPDATED.owner == "projects"
    assert not GET_PROJECT.subject.startswith("flyte.")


@pytest.mark.parametrize(
    ("template", "namespace"),
    [
        ("{{ project }}-{{ domain }}", "potato-production"),
        ("{{domain}}", "production"),
        ("fixed", "fixed"),
        ("{{ other }}", "{{ other }}"),
    ],
)
def test_namespaces_follow_their_template(template: str, namespace: str) -> None:
    assert namespace_of(template, "potato", "production") == namespace
