"""Matchable attributes as callers of the projects service see them: over gRPC and NATS, on a real database."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any, cast

import grpc
import psycopg
import pytest
from flyteidl.admin.common_pb2 import Envs, Labels
from flyteidl.admin.matchable_resource_pb2 import (
    ListMatchableAttributesRequest,
    MatchableAttributesConfiguration,
    MatchableResource,
    MatchingAttributes,
    WorkflowExecutionConfig,
)
from flyteidl.admin.project_pb2 import InactiveProject, Project, ProjectRegisterRequest
from flyteidl.core.literals_pb2 import KeyValuePair
from flyteidl.core.security_pb2 import Identity, SecurityContext
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf.empty_pb2 import Empty

from services.contracts.executions import GET_DEFAULT_CONFIG
from services.contracts.projects import ATTRIBUTES_DELETED, ATTRIBUTES_UPDATED, GET_PROJECT_AND_ATTRIBUTES
from services.kit.errors import NotFound
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import announcements_of
from services.kit.messaging.streams import Delivery
from tests.support.attributes import (
    LEVELS,
    PROJECT,
    PROJECT_DOMAIN,
    WORKFLOW,
    attributes,
    delete,
    get,
    overrides,
    put,
    request,
    scoped,
)
from tests.support.parts import Parts, Served, service
from tests.support.refusals import detail_of, refused

KINDS = MatchableResource.keys()
BAD = grpc.StatusCode.INVALID_ARGUMENT

pytestmark = pytest.mark.usefixtures("running")


@pytest.fixture(scope="module")
async def running(parts: Parts) -> AsyncIterator[Served]:
    """Run the service, and an executions service with some defaults, which it requests."""
    async with AsyncExitStack() as stack:
        defaults = {
            "max_parallelism": 25,
            "assumable_iam_role": "role",
            "envs": {"A": "B"},
            "labels": {"l": "platform"},
        }
        objects = {"objects_url": f"file://{parts.folder / 'attribute-objects'}", "signing_key": "key"}
        await stack.enter_async_context(service("executions", parts, "attributes_executions", **defaults, **objects))
        yield await stack.enter_async_context(service("projects", parts, "attributes_projects"))


@pytest.fixture(scope="module")
def admin(running: Served) -> AdminServiceStub:
    return AdminServiceStub(running.channel)


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return iter(range(1, 1000))


@pytest.fixture
async def project(admin: AdminServiceStub, numbers: Iterator[int]) -> str:
    """Return a project without attributes."""
    identifier = f"attributed-{next(numbers)}"
    await admin.RegisterProject(ProjectRegisterRequest(project=Project(id=identifier, name=identifier)))
    return identifier


@pytest.fixture
def scope(project: str) -> tuple[str, str, str]:
    return (project, "development", "peel")


def own_scope(level: str, scope: tuple[str, ...]) -> tuple[str, ...]:
    """Return the scope as responses contain it: parts that the level does not have are empty."""
    parts = len(scoped(level, scope))
    return scope[:parts] + ("",) * (len(scope) - parts)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", LEVELS)
async def test_attributes_are_read_at_their_level_until_they_are_deleted(
    admin: AdminServiceStub, scope: tuple[str, ...], level: str, kind: str
) -> None:
    await put(admin, level, scope, attributes(kind, 7))
    found = await get(admin, level, scope, kind)
    if kind == "WORKFLOW_EXECUTION_CONFIG":
        assert found.matching_attributes.workflow_execution_config.max_parallelism == 7
    else:
        assert found.matching_attributes == attributes(kind, 7)
    assert tuple(getattr(found, part) for part in scoped(level, scope)) == scope[: len(scoped(level, scope))]
    await put(admin, level, scope, attributes(kind, 8))
    await delete(admin, level, scope, kind)
    if (level, kind) == (PROJECT, "WORKFLOW_EXECUTION_CONFIG"):
        assert (
            await get(admin, level, scope, kind)
        ).matching_attributes.workflow_execution_config.max_parallelism == 25
    else:
        await refused(get(admin, level, scope, kind), grpc.StatusCode.NOT_FOUND, f"ResourceType:{kind}}}] not found")
    await delete(admin, level, scope, kind)


@pytest.mark.parametrize("kind", ["TASK_RESOURCE", "PLUGIN_OVERRIDE", "QUALITY_OF_SERVICE_SPECIFICATION"])
async def test_most_specific_row_is_returned_whole_with_its_scope(
    admin: AdminServiceStub, scope: tuple[str, ...], kind: str
) -> None:
    for mark, level in enumerate(LEVELS, 1):
        await put(admin, level, scope, attributes(kind, mark))
        found = await get(admin, WORKFLOW, scope, kind)
        assert found.matching_attributes == attributes(kind, mark)
        assert (found.project, found.domain, found.workflow) == own_scope(level, scope)
    found = await get(admin, PROJECT_DOMAIN, scope, kind)
    assert (found.matching_attributes, found.domain) == (attributes(kind, 2), "development")
    found = await get(admin, PROJECT_DOMAIN, (scope[0], "staging"), kind)
    assert (found.matching_attributes, found.domain) == (attributes(kind, 1), "")
    found = await get(admin, WORKFLOW, (scope[0], "development", "other"), kind)
    assert (found.matching_attributes, found.workflow) == (attributes(kind, 2), "")


async def test_get_project_attributes_ignores_rows_of_its_domains(
    admin: AdminServiceStub, scope: tuple[str, ...]
) -> None:
    await put(admin, PROJECT_DOMAIN, scope, attributes("TASK_RESOURCE", 1))
    await refused(
        get(admin, PROJECT, scope, "TASK_RESOURCE"),
        grpc.StatusCode.NOT_FOUND,
        f"Resource [{{Project:{scope[0]} Domain: Workflow: LaunchPlan: ResourceType:TASK_RESOURCE}}] not found",
    )


async def test_delete_attributes_leaves_other_levels(admin: AdminServiceStub, scope: tuple[str, ...]) -> None:
    for mark, level in enumerate(LEVELS, 1):
        await put(admin, level, scope, attributes("EXECUTION_QUEUE", mark))
    await delete(admin, PROJECT_DOMAIN, scope, "EXECUTION_QUEUE")
    assert (await get(admin, WORKFLOW, scope, "EXECUTION_QUEUE")).matching_attributes == attributes(
        "EXECUTION_QUEUE", 3
    )
    assert (await get(admin, PROJECT_DOMAIN, scope, "EXECUTION_QUEUE")).domain == ""
    await delete(admin, PROJECT, scope, "EXECUTION_QUEUE")
    assert (await get(admin, WORKFLOW, scope, "EXECUTION_QUEUE")).workflow == "peel"


@pytest.mark.parametrize("level", LEVELS)
async def test_plugin_overrides_are_merged_by_task_type_also_at_once(
    admin: AdminServiceStub, scope: tuple[str, ...], level: str
) -> None:
    given = [MatchingAttributes(plugin_overrides=overrides(**{f"type{n}": "first"})) for n in range(8)]
    await asyncio.gather(*(put(admin, level, scope, override) for override in given))
    await put(admin, level, scope, MatchingAttributes(plugin_overrides=overrides(type0="second")))
    found = (await get(admin, level, scope, "PLUGIN_OVERRIDE")).matching_attributes.plugin_overrides
    expected = {f"type{n}": ["first"] for n in range(1, 8)} | {"type0": ["second"]}
    assert {override.task_type: list(override.plugin_id) for override in found.overrides} == expected


async def test_plugin_overrides_of_other_scopes_are_not_merged(admin: AdminServiceStub, scope: tuple[str, ...]) -> None:
    await put(admin, WORKFLOW, scope, MatchingAttributes(plugin_overrides=overrides(python="of the workflow")))
    await put(admin, PROJECT_DOMAIN, scope, MatchingAttributes(plugin_overrides=overrides(spark="of the domain")))
    for level, task_types in ((WORKFLOW, ["python"]), (PROJECT_DOMAIN, ["spark"])):
        found = (await get(admin, level, scope, "PLUGIN_OVERRIDE")).matching_attributes.plugin_overrides
        assert [override.task_type for override in found.overrides] == task_types


async def test_execution_config_of_a_project_is_completed_with_the_platforms_defaults(
    admin: AdminServiceStub, project: str
) -> None:
    kind = "WORKFLOW_EXECUTION_CONFIG"
    run_as = SecurityContext(run_as=Identity(iam_role="role"))
    platform = WorkflowExecutionConfig(
        max_parallelism=25, security_context=run_as, labels=Labels(values={"l": "platform"})
    )
    found = await get(admin, PROJECT, (project,), kind)
    assert (found.project, found.matching_attributes.workflow_execution_config) == (project, platform)

    own = WorkflowExecutionConfig(
        max_parallelism=3, labels=Labels(values={"l": "own"}), envs=Envs(values=[KeyValuePair(key="X", value="Y")])
    )
    await put(admin, PROJECT, (project,), MatchingAttributes(workflow_execution_config=own))
    own.security_context.CopyFrom(run_as)
    found = await get(admin, PROJECT, (project,), kind)
    assert found.matching_attributes.workflow_execution_config == own
    # Below the project nothing is completed.
    below = (await get(admin, PROJECT_DOMAIN, (project, "staging"), kind)).matching_attributes
    assert not below.workflow_execution_config.HasField("security_context")


@pytest.mark.parametrize(
    ("level", "fields", "message"),
    [
        (PROJECT, {}, "missing attributes"),
        (PROJECT, {"attributes": {"project": "nowhere"}}, "project [nowhere] is registered, err: [project [nowhere]"),
        (PROJECT, {"attributes": {"project": ""}}, "project [] is registered, err: [project [] not found]"),
        (PROJECT, {"attributes": {"project": "flytesnacks"}}, "missing matching_attributes"),
        (
            PROJECT,
            {"attributes": {"project": "flytesnacks", "matching_attributes": {}}},
            "Unrecognized matching attributes type for request flytesnacks",
        ),
        (PROJECT_DOMAIN, {}, "missing attributes"),
        (
            PROJECT_DOMAIN,
            {"attributes": {"project": "", "domain": "staging"}},
            "project [] and domain [staging] are registered, err: [project [] not found]",
        ),
        (
            PROJECT_DOMAIN,
            {"attributes": {"project": "flytesnacks", "domain": "mars"}},
            "domain [mars] is unrecognized by system",
        ),
        (
            PROJECT_DOMAIN,
            {"attributes": {"project": "flytesnacks", "domain": "staging"}},
            "missing matching_attributes",
        ),
        (WORKFLOW, {}, "missing attributes"),
        (WORKFLOW, {"attributes": {"project": "flytesnacks", "domain": "staging"}}, "missing name"),
        (
            WORKFLOW,
            {"attributes": {"project": "flytesnacks", "domain": "staging", "workflow": "w"}},
            "missing matching_attributes",
        ),
        (
            WORKFLOW,
            {"attributes": {"project": "flytesnacks", "domain": "staging", "workflow": "w", "matching_attributes": {}}},
            "Unrecognized matching attributes type for request flytesnacks-staging-w",
        ),
    ],
)
async def test_wrong_update_is_refused(
    admin: AdminServiceStub, level: str, fields: dict[str, Any], message: str
) -> None:
    call = getattr(admin, f"Update{level}Attributes")(request("Update", level, **fields))
    await refused(call, BAD, message)


@pytest.mark.parametrize("verb", ["Get", "Delete"])
async def test_get_and_delete_at_a_wrong_scope_are_invalid_argument(admin: AdminServiceStub, verb: str) -> None:
    for level, scope, message in (
        (PROJECT, ("nowhere",), f"project [nowhere] {'exists' if verb == 'Get' else 'is registered'}, err:"),
        (PROJECT_DOMAIN, ("nowhere", "staging"), "project [nowhere] and domain [staging] are registered"),
        (PROJECT_DOMAIN, ("flytesnacks", "mars"), "domain [mars] is unrecognized by system"),
        (WORKFLOW, ("flytesnacks", "staging", ""), "missing name"),
    ):
        call = getattr(admin, f"{verb}{level}Attributes")(request(verb, level, **scoped(level, scope)))
        await refused(call, BAD, message)


async def test_archived_project_allows_only_reads_of_its_own_attributes(
    admin: AdminServiceStub, scope: tuple[str, ...]
) -> None:
    kind = "TASK_RESOURCE"
    for level in LEVELS:
        await put(admin, level, scope, attributes(kind, 1))
    await admin.UpdateProject(Project(id=scope[0], state=Project.ARCHIVED))
    message = f"project [{scope[0]}] is not active"
    for level in LEVELS:
        error = await refused(put(admin, level, scope, attributes(kind, 2)), BAD, message)
        if level == PROJECT:
            assert "grpc-status-details-bin" not in cast("grpc.aio.Metadata", error.trailing_metadata())
        else:
            assert detail_of(error, InactiveProject()).id == scope[0]
        await refused(delete(admin, level, scope, kind), BAD, message)
        if level != PROJECT:
            await refused(get(admin, level, scope, kind), BAD, message)
    assert (await get(admin, PROJECT, scope, kind)).matching_attributes == attributes(kind, 1)


async def test_list_matchable_attributes_has_every_scope_most_specific_first(
    admin: AdminServiceStub, scope: tuple[str, ...]
) -> None:
    kind = "CLUSTER_RESOURCE"
    for mark, level in enumerate(LEVELS, 1):
        await put(admin, level, scope, attributes(kind, mark))
    response = await admin.ListMatchableAttributes(ListMatchableAttributesRequest(resource_type=kind))
    assert [listed for listed in response.configurations if listed.project == scope[0]] == [
        MatchableAttributesConfiguration(
            project=scope[0],
            domain=own_scope(level, scope)[1],
            workflow=own_scope(level, scope)[2],
            attributes=attributes(kind, mark),
        )
        for mark, level in ((3, WORKFLOW), (2, PROJECT_DOMAIN), (1, PROJECT))
    ]


async def test_list_matchable_attributes_of_an_unknown_kind_is_invalid_argument(admin: AdminServiceStub) -> None:
    unknown = ListMatchableAttributesRequest.FromString(b"\x08\x63")
    await refused(admin.ListMatchableAttributes(unknown), BAD, "invalid value for resource_type")


async def test_rows_for_every_project_of_a_domain_are_read(
    admin: AdminServiceStub, running: Served, scope: tuple[str, ...]
) -> None:
    async with await psycopg.AsyncConnection.connect(running.settings.database_url) as connection:
        await connection.execute(
            "INSERT INTO matchable_attributes (project, domain, workflow, launch_plan, resource_type, priority,"
            " attributes, created_at, updated_at) VALUES ('', 'production', '', '', 2, 10, %b, now(), now())",
            [attributes("EXECUTION_QUEUE", 9).SerializeToString()],
        )
    found = await get(admin, PROJECT_DOMAIN, (scope[0], "production"), "EXECUTION_QUEUE")
    assert (found.project, found.domain) == ("", "production")
    assert found.matching_attributes == attributes("EXECUTION_QUEUE", 9)


async def test_service_request_returns_project_and_attributes_most_specific_first(
    admin: AdminServiceStub, bus: Bus, scope: tuple[str, ...]
) -> None:
    project, domain, workflow = scope
    request_ = MatchableAttributesConfiguration(project=project, domain=domain, workflow=workflow)
    response = await bus.request(GET_PROJECT_AND_ATTRIBUTES, request_)
    assert (response.project.id, len(response.project.domains), len(response.attributes)) == (project, 3, 0)

    for mark, level in enumerate(LEVELS, 1):
        for kind in ("TASK_RESOURCE", "CLUSTER_ASSIGNMENT"):
            await put(admin, level, scope, attributes(kind, mark))
    await put(admin, WORKFLOW, (project, domain, "other"), attributes("TASK_RESOURCE", 9))
    await put(admin, PROJECT_DOMAIN, (project, "staging"), attributes("TASK_RESOURCE", 9))
    matching = (await bus.request(GET_PROJECT_AND_ATTRIBUTES, request_)).attributes
    resources = [match.attributes for match in matching if match.attributes.HasField("task_resource_attributes")]
    assert resources == [attributes("TASK_RESOURCE", mark) for mark in (3, 2, 1)]
    assert [match.workflow for match in matching] == [workflow, workflow, "", "", "", ""]

    await delete(admin, WORKFLOW, scope, "TASK_RESOURCE")
    assert len((await bus.request(GET_PROJECT_AND_ATTRIBUTES, request_)).attributes) == 5
    with pytest.raises(NotFound, match=r"^project \[nowhere\] not found$"):
        await bus.request(GET_PROJECT_AND_ATTRIBUTES, MatchableAttributesConfiguration(project="nowhere"))


async def test_every_change_is_announced_once_in_order(
    admin: AdminServiceStub, bus: Bus, scope: tuple[str, ...]
) -> None:
    received: list[tuple[str, MatchableAttributesConfiguration]] = []
    complete = asyncio.Event()

    async def receive(delivery: Delivery) -> None:
        message = MatchableAttributesConfiguration.FromString(delivery.payload)
        if message.project == scope[0]:
            received.append((delivery.subject, message))
            if len(received) == 3:
                complete.set()

    await bus.consume(announcements_of("projects"), "flyte.projects.attributes.>", "test-attributes", receive)
    await put(admin, WORKFLOW, scope, MatchingAttributes(plugin_overrides=overrides(python="a")))
    await put(admin, WORKFLOW, scope, MatchingAttributes(plugin_overrides=overrides(spark="b")))
    await delete(admin, PROJECT_DOMAIN, scope, "PLUGIN_OVERRIDE")
    await delete(admin, WORKFLOW, scope, "PLUGIN_OVERRIDE")
    async with asyncio.timeout(5):
        await complete.wait()
    assert [subject for subject, _ in received] == [ATTRIBUTES_UPDATED.subject] * 2 + [ATTRIBUTES_DELETED.subject]
    both = MatchingAttributes(plugin_overrides=overrides(python="a", spark="b"))
    assert received[1][1] == MatchableAttributesConfiguration(
        project=scope[0], domain=scope[1], workflow=scope[2], attributes=both
    )
    assert received[2][1] == received[1][1]


async def test_default_config_of_executions_has_no_environment(bus: Bus) -> None:
    config = await bus.request(GET_DEFAULT_CONFIG, Empty())
    assert (config.max_parallelism, config.security_context.run_as.iam_role) == (25, "role")
    assert not config.HasField("envs")
