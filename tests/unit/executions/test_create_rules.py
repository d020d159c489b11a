"""Checks of CreateExecution, and the new execution (executions.md#createexecution)."""

import secrets
from datetime import UTC, datetime
from typing import Any

import pytest
from flyteidl.admin.common_pb2 import Annotations, AuthRole, Labels, Notification
from flyteidl.admin.execution_pb2 import ExecutionCreateRequest, ExecutionSpec, NotificationList
from flyteidl.admin.launch_plan_pb2 import (
    CONCURRENCY_LIMIT_BEHAVIOR_SKIP,
    CONCURRENCY_LIMIT_BEHAVIOR_UNSPECIFIED,
    ConcurrencyPolicy,
    LaunchPlanMetadata,
)
from flyteidl.admin.matchable_resource_pb2 import ListMatchableAttributesResponse, WorkflowExecutionConfig
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.core.literals_pb2 import Literal, LiteralMap

from services.executions.rules import create, names, new_executions
from services.kit.errors import AlreadyExists, Internal, InvalidArgument, ServiceError
from tests.support.configs import BAD, GOOD, configured
from tests.support.entities import identifier, literals
from tests.support.executions import launch, registered_launch_plan

FAILED = WorkflowExecution.FAILED
NOW = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)


def mail(*phases: WorkflowExecution.Phase) -> Notification:
    notification = Notification(phases=phases)
    notification.email.recipients_email.append("a@example.com")
    return notification


def made(request: ExecutionCreateRequest, **changes: Any) -> new_executions.NewExecution:
    launch_plan = registered_launch_plan(
        entity_metadata=LaunchPlanMetadata(notifications=[mail(WorkflowExecution.ABORTED)])
    )
    arguments: dict[str, Any] = {
        "name": "n",
        "entity": new_executions.LaunchedEntity(launch_plan, launch_plan.spec.workflow_id),
        "config": WorkflowExecutionConfig(max_parallelism=9),
        "attributes": ListMatchableAttributesResponse(),
        "origin": new_executions.Origin("ann"),
        "now": NOW,
        "namespace_": "ns",
    }
    return new_executions.new_execution(request, **{**arguments, **changes})


def limited_entity(behavior: Any, task: Identifier | None = None) -> new_executions.LaunchedEntity:
    launch_plan = registered_launch_plan(concurrency_policy=ConcurrencyPolicy(max=1, behavior=behavior))
    return new_executions.LaunchedEntity(launch_plan, launch_plan.spec.workflow_id, task)


@pytest.mark.parametrize("name", ["a", "my-exec-1", "a" * 63, "a-"])
def test_good_names_pass(name: str) -> None:
    names.check_name(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a" * 64, "size of name exceeded length 63"),
        ("MyExec", "invalid name format: MyExec, does not match regex"),
        ("1a", "invalid name format"),
        ("-a", "invalid name format"),
        ("a_b", "invalid name format"),
        ("a\n", "invalid name format"),
        ("ä", "invalid name format"),
    ],
)
def test_bad_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        names.check_name(name)


def test_generated_names_have_twenty_characters_and_differ() -> None:
    generated = {names.generated_name(secrets.choice) for _ in range(1000)}
    assert len(generated) == 1000
    for name in generated:
        assert len(name) == 20
        names.check_name(name)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ExecutionCreateRequest(), "missing project"),
        (ExecutionCreateRequest(project="p"), "missing domain"),
        (ExecutionCreateRequest(project="p", domain="d", name="X"), "invalid name format"),
    ],
)
def test_project_domain_and_name_are_checked_in_order(request_: ExecutionCreateRequest, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        create.check_project_domain_and_name(request_)


def nameless() -> Identifier:
    without_name = identifier(ResourceType.LAUNCH_PLAN, "")
    without_name.resource_type = ResourceType.WORKFLOW
    return without_name


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ExecutionCreateRequest(project="p", domain="d"), "missing spec"),
        (ExecutionCreateRequest(spec=ExecutionSpec()), "missing id"),
        (launch(launches=nameless()), "missing name"),
        (launch(launches=identifier(ResourceType.WORKFLOW, "w")), "Invalid reference entity resource type"),
        (launch(inputs=LiteralMap(literals={"": Literal()})), "missing key in inputs"),
        (launch(inputs=LiteralMap(literals={"a": Literal()})), "missing valid literal in inputs a"),
        (launch(notifications=NotificationList(notifications=[Notification()])), "notification type"),
        (launch(notifications=NotificationList(notifications=[mail(WorkflowExecution.RUNNING)])), "value for phase"),
        (launch(labels=Labels(values={str(n): "" for n in range(17)})), "labels map cannot exceed 16 entries"),
        (launch(labels=Labels(values={"-": ""})), r"invalid label key \[-\]"),
    ],
)
def test_invalid_spec_is_refused(request_: ExecutionCreateRequest, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        create.check_spec(request_)


@pytest.mark.parametrize(("field", "value", "message"), BAD)
def test_invalid_configuration_is_refused(field: str, value: Any, message: str) -> None:
    request = launch()
    configured(request.spec, field, value)
    with pytest.raises(InvalidArgument) as refused:
        create.check_spec(request)
    assert refused.value.message.startswith(message)


def test_a_service_account_in_the_deprecated_role_is_checked_too() -> None:
    request = launch(auth_role=AuthRole(kubernetes_service_account="Bad"))
    with pytest.raises(InvalidArgument, match=r"invalid service account name \[Bad\]"):
        create.check_spec(request)


@pytest.mark.parametrize(("field", "value"), GOOD)
def test_valid_configuration_passes(field: str, value: Any) -> None:
    request = launch()
    configured(request.spec, field, value)
    create.check_spec(request)


def test_inputs_of_the_spec_count_only_without_inputs_of_the_request() -> None:
    request = launch(inputs=literals(a=1))
    request.spec.inputs.CopyFrom(literals(a=2))
    assert create.inputs_of(request) == literals(a=1)
    request.ClearField("inputs")
    assert create.inputs_of(request) == literals(a=2)


def test_times_and_state_change_are_the_time_of_creation() -> None:
    closure = made(launch()).closure
    assert closure.created_at.ToDatetime(UTC) == NOW
    assert closure.updated_at == closure.created_at == closure.state_change_details.occurred_at
    assert closure.state_change_details.principal == "ann"
    assert closure.phase == WorkflowExecution.UNDEFINED


def test_spec_is_stored_as_sent_except_fields_of_the_control_plane() -> None:
    request = launch(labels=Labels(values={"k": "v"}), tags=["t"])
    request.spec.metadata.principal = "placeholder"
    request.spec.metadata.system_metadata.execution_cluster = "mine"
    request.spec.metadata.artifact_ids.add()
    request.spec.inputs.CopyFrom(literals(a=1))
    config = WorkflowExecutionConfig(max_parallelism=9, labels=Labels(values={"other": "x"}))
    new = made(request, config=config)
    assert new.spec.metadata.principal == "ann"
    assert new.spec.metadata.system_metadata.namespace == "ns"
    assert new.spec.metadata.system_metadata.execution_cluster == ""
    assert not new.spec.metadata.artifact_ids
    assert new.spec.max_parallelism == 9
    assert new.spec.labels.values == {"k": "v"}
    assert not new.spec.HasField("inputs")
    assert new.spec_inputs == literals(a=1)
    assert new.tags == {("k", "v"), ("t", "")}
    assert request.spec.metadata.principal == "placeholder"


@pytest.mark.parametrize("requested", [0, 3])
def test_spec_of_a_single_task_has_the_requested_parallelism(requested: int) -> None:
    task = identifier(ResourceType.TASK, "my.task")
    launch_plan = registered_launch_plan()
    entity = new_executions.LaunchedEntity(launch_plan, launch_plan.spec.workflow_id, task)
    new = made(launch(max_parallelism=requested), entity=entity)
    assert (new.spec.max_parallelism, new.config.max_parallelism) == (requested, 9)


def test_nesting_stops_at_the_largest_value() -> None:
    parent_spec = ExecutionSpec()
    parent_spec.metadata.nesting = 2**32 - 1
    parent = new_executions.Parent(node_execution_id=7, execution_id=8, user="bob", spec=parent_spec)
    assert made(launch(), origin=new_executions.Origin("ann", parent)).spec.metadata.nesting == 2**32 - 1


def test_a_child_inherits_from_its_parent() -> None:
    parent_spec = ExecutionSpec()
    parent_spec.metadata.nesting = 2
    parent_spec.execution_cluster_label.value = "gpu"
    parent = new_executions.Parent(node_execution_id=7, execution_id=8, user="bob", spec=parent_spec)
    request = launch()
    request.spec.execution_cluster_label.value = "cpu"
    new = made(request, origin=new_executions.Origin("", parent))
    assert (new.spec.metadata.principal, new.spec.metadata.nesting) == ("bob", 3)
    assert new.spec.execution_cluster_label.value == "gpu"
    assert (new.source_execution_id, new.parent_node_execution_id) == (8, 7)
    assert made(request, origin=new_executions.Origin("", parent, 5)).source_execution_id == 5


def test_known_caller_is_the_principal_with_any_parent() -> None:
    parent = new_executions.Parent(node_execution_id=7, execution_id=8, user="bob", spec=ExecutionSpec())
    request = launch()
    request.spec.metadata.principal = "carol"
    new = made(request, origin=new_executions.Origin("ann", parent))
    assert (new.spec.metadata.principal, new.closure.state_change_details.principal) == ("ann", "ann")


@pytest.mark.parametrize(
    ("spec", "phases"),
    [
        ({}, [WorkflowExecution.ABORTED]),
        ({"disable_all": True}, []),
        ({"notifications": NotificationList()}, [WorkflowExecution.ABORTED]),
        (
            {"notifications": NotificationList(notifications=[mail(WorkflowExecution.FAILED)])},
            [WorkflowExecution.FAILED],
        ),
    ],
)
def test_notifications_are_stored_at_creation(spec: dict[str, Any], phases: list[WorkflowExecution.Phase]) -> None:
    notifications = made(launch(**spec)).closure.notifications
    assert [phase for notification in notifications for phase in notification.phases] == phases


def test_labels_of_the_project_fill_gaps() -> None:
    config = WorkflowExecutionConfig(labels=Labels(values={"a": "1"}))
    complete = create.with_project_labels(config, Labels(values={"a": "2", "b": "3"}))
    assert complete.labels.values == {"a": "1", "b": "3"}
    assert config.labels.values == {"a": "1"}


def test_entries_are_limited_only_when_configured() -> None:
    config = WorkflowExecutionConfig(
        labels=Labels(values={"a": "", "b": ""}), annotations=Annotations(values={"a": "", "b": ""})
    )
    create.check_entries(config, 0, 0)
    create.check_entries(config, 2, 2)
    with pytest.raises(InvalidArgument, match=r"labels has too many entries \[2 > 1\]"):
        create.check_entries(config, 1, 0)
    with pytest.raises(InvalidArgument, match="annotations has too many entries"):
        create.check_entries(config, 0, 1)


@pytest.mark.parametrize(("requested", "assigned"), [("", ""), ("a", ""), ("", "a"), ("a", "a")])
def test_cluster_pool_passes_if_it_is_the_assigned_one(requested: str, assigned: str) -> None:
    create.check_cluster_pool(requested, assigned)


def test_cluster_pool_other_than_the_assigned_one_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="cannot run on cluster pool"):
        create.check_cluster_pool("a", "b")


@pytest.mark.parametrize(
    ("behavior", "counts"), [(CONCURRENCY_LIMIT_BEHAVIOR_SKIP, True), (CONCURRENCY_LIMIT_BEHAVIOR_UNSPECIFIED, False)]
)
def test_only_the_behavior_skip_limits(behavior: Any, *, counts: bool) -> None:
    assert create.has_concurrency_limit(limited_entity(behavior)) is counts


def test_a_single_task_is_never_limited() -> None:
    task = identifier(ResourceType.TASK, "t")
    assert not create.has_concurrency_limit(limited_entity(CONCURRENCY_LIMIT_BEHAVIOR_SKIP, task))


def test_unknown_behavior_is_internal() -> None:
    with pytest.raises(Internal):
        create.has_concurrency_limit(limited_entity(7))


@pytest.mark.parametrize(("active", "refusal"), [(0, None), (1, None), (2, AlreadyExists), (3, AlreadyExists)])
def test_concurrency_limit_counts_active_executions(active: int, refusal: type[ServiceError] | None) -> None:
    policy = ConcurrencyPolicy(max=2, behavior=CONCURRENCY_LIMIT_BEHAVIOR_SKIP)
    if refusal is None:
        create.check_concurrency(policy, active, "lp")
        return
    with pytest.raises(refusal, match=r"concurrency limit \(2\) reached for launch plan lp; skipping execution"):
        create.check_concurrency(policy, active, "lp")
