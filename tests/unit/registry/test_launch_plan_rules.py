"""Checks of launch plans and what clients read back.

See registry.md#createlaunchplan-steps and registry.md#expected-inputs.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from flyteidl.admin.common_pb2 import AuthRole, EmailNotification, Notification
from flyteidl.admin.launch_plan_pb2 import Auth, LaunchPlan, LaunchPlanClosure, LaunchPlanSpec, LaunchPlanState
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.core.interface_pb2 import Parameter, TypedInterface, Variable, VariableMap
from flyteidl.core.literals_pb2 import Literal, LiteralCollection, Primitive, Scalar
from flyteidl.core.types_pb2 import EnumType, LiteralType, SimpleType
from google.protobuf.timestamp_pb2 import Timestamp

from services.kit.errors import InvalidArgument
from services.registry.rules.launch_plans import as_sent, checked_launch_plan, registered_launch_plan
from tests.support.configs import BAD, GOOD, configured
from tests.support.values import FITTING, FOREIGN_COLORS, OTHERS

NOW = datetime(2022, 1, 27, tzinfo=UTC)
PLAN = Identifier(resource_type=ResourceType.LAUNCH_PLAN, project="p", domain="d", name="n", version="v")
INTEGER = LiteralType(simple=SimpleType.INTEGER)
DATETIME = LiteralType(simple=SimpleType.DATETIME)
ONE = Literal(scalar=Scalar(primitive=Primitive(integer=1)))
TEXT = Literal(scalar=Scalar(primitive=Primitive(string_value="one")))
MANY = Literal(collection=LiteralCollection(literals=[ONE]))
UNKNOWN = Literal(scalar=Scalar())
INTERFACE = TypedInterface(
    inputs=VariableMap(
        variables={
            "a": Variable(type=INTEGER, description="the first"),
            "b": Variable(type=INTEGER),
            "when": Variable(type=DATETIME),
        }
    ),
    outputs=VariableMap(variables={"o0": Variable(type=INTEGER)}),
)

Change = Callable[[LaunchPlanSpec], object]


def default(name: str, parameter: Parameter) -> Change:
    return lambda spec: spec.default_inputs.parameters[name].CopyFrom(parameter)


def fixed(name: str, literal: Literal) -> Change:
    return lambda spec: spec.fixed_inputs.literals[name].CopyFrom(literal)


def spec(*changes: Change) -> LaunchPlanSpec:
    made = LaunchPlanSpec()
    for change in changes:
        change(made)
    return made


def parameter(**fields: object) -> Parameter:
    return Parameter(var=Variable(type=INTEGER), **fields)  # type: ignore[arg-type]  # fields of one message, mixed


def test_free_inputs_are_expected_and_read_back_as_default_inputs() -> None:
    given = parameter(default=ONE)
    given.var.description = "the client's own words"
    plan = checked_launch_plan(PLAN, spec(default("a", given), fixed("b", ONE)), INTERFACE, NOW)
    expected = plan.closure.expected_inputs.parameters
    assert expected["a"] == given
    assert expected["when"] == Parameter(var=Variable(type=DATETIME), required=True)
    assert set(expected) == {"a", "when"}
    assert plan.spec.default_inputs == plan.closure.expected_inputs
    assert plan.closure.expected_outputs == INTERFACE.outputs


def test_required_input_takes_type_and_description_of_the_workflow() -> None:
    plan = checked_launch_plan(PLAN, spec(), INTERFACE, NOW)
    assert plan.closure.expected_inputs.parameters["a"] == Parameter(var=INTERFACE.inputs.variables["a"], required=True)


def test_offloaded_value_counts_by_its_inferred_type() -> None:
    elsewhere = Literal()
    elsewhere.offloaded_metadata.uri = "s3://bucket/value"
    elsewhere.offloaded_metadata.inferred_type.CopyFrom(INTEGER)
    plan = checked_launch_plan(
        PLAN, spec(fixed("a", elsewhere), default("b", parameter(default=elsewhere))), INTERFACE, NOW
    )
    assert set(plan.closure.expected_inputs.parameters) == {"b", "when"}


def test_default_wins_over_a_fixed_input_of_the_same_name() -> None:
    plan = checked_launch_plan(PLAN, spec(default("a", parameter(default=ONE)), fixed("a", ONE)), INTERFACE, NOW)
    assert plan.closure.expected_inputs.parameters["a"].default == ONE


def test_workflow_without_interface_leaves_inputs_present_and_outputs_absent() -> None:
    plan = checked_launch_plan(PLAN, spec(), TypedInterface(), NOW)
    assert plan.spec.HasField("default_inputs")
    assert plan.closure.HasField("expected_inputs")
    assert not plan.closure.HasField("expected_outputs")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ([lambda s: s.labels.values.update({"k": "#bar"})], "invalid label value [#bar]"),
        ([fixed("", ONE)], "missing key in fixed_inputs"),
        ([fixed("a", Literal())], "missing valid literal in fixed_inputs a"),
        ([fixed("c", ONE)], "unexpected fixed_input c"),
        ([fixed("a", TEXT)], "invalid fixed_input wrong type a, expected simple:INTEGER"),
        ([default("", parameter(required=True))], "missing key in default_inputs"),
        ([default("a", Parameter(required=True))], "The Variable component of the Parameter a in default_inputs"),
        ([default("a", parameter())], "Invalid variable a in default_inputs - variable has neither default, nor is"),
        ([default("a", parameter(required=False))], "Invalid variable a in default_inputs"),
        ([default("a", parameter(default=Literal()))], "Failed to validate literal type for [a] with err:"),
        (
            [default("a", parameter(default=TEXT))],
            "Type mismatch for Parameter a in default_inputs has type simple:STRING, expected simple:INTEGER",
        ),
        ([default("c", parameter(required=True))], "unexpected default_input c"),
        (
            [default("when", parameter(required=True))],
            "invalid default_input wrong type when, expected simple:DATETIME",
        ),
        ([fixed("a", UNKNOWN)], "Failed to validate literal type for [a] with err:"),
        ([fixed("a", MANY), default("b", parameter())], "Invalid variable b in default_inputs"),  # defaults come first
        ([fixed("a", MANY)], "invalid fixed_input wrong type a, expected simple:INTEGER"),
        ([default("a", parameter(artifact_id={}))], "Invalid variable a in default_inputs"),
        ([default("c", parameter(required=True)), fixed("d", ONE)], "unexpected default_input c"),
        (
            [default("a", Parameter(artifact_query={}))],
            "artifact mode not enabled but query found default_inputs a",
        ),
        ([lambda s: s.entity_metadata.schedule.rate.SetInParent()], "unbound required input. [a] is required"),
        (
            [lambda s: s.entity_metadata.notifications.append(Notification(email=EmailNotification()))],
            "missing recipients",
        ),
        ([lambda s: s.entity_metadata.launch_conditions.SetInParent()], "Launch condition must be empty, found"),
    ],
)
def test_invalid_launch_plan_is_invalid_argument(changes: list[Change], text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        checked_launch_plan(PLAN, spec(*changes), INTERFACE, NOW)
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (default("a", parameter(default=ONE)), "invalid launch plan default inputs, expected none but found 1"),
        (fixed("a", ONE), "invalid launch plan fixed inputs, expected none but found 1"),
    ],
)
def test_workflow_without_inputs_allows_none(change: Change, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        checked_launch_plan(PLAN, spec(change), TypedInterface(), NOW)


@pytest.mark.parametrize(("field", "value", "text"), BAD)
def test_invalid_configuration_of_a_launch_plan_is_refused(field: str, value: Any, text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        checked_launch_plan(PLAN, configured(spec(), field, value), INTERFACE, NOW)
    assert refused.value.message.startswith(text)


@pytest.mark.parametrize(
    "deprecated",
    [
        {"auth_role": AuthRole(kubernetes_service_account="Bad")},
        {"auth": Auth(kubernetes_service_account="Bad")},
    ],
)
def test_service_account_in_a_deprecated_role_is_checked_too(deprecated: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=r"invalid service account name \[Bad\]"):
        checked_launch_plan(PLAN, LaunchPlanSpec(**deprecated), INTERFACE, NOW)


@pytest.mark.parametrize(("field", "value"), GOOD)
def test_valid_configuration_of_a_launch_plan_is_stored(field: str, value: Any) -> None:
    assert getattr(checked_launch_plan(PLAN, configured(spec(), field, value), INTERFACE, NOW).spec, field) == value


def of_one(declared: LiteralType) -> TypedInterface:
    return TypedInterface(inputs=VariableMap(variables={"x": Variable(type=declared)}))


@pytest.mark.parametrize(("declared", "value"), FITTING)
def test_default_and_fixed_input_of_the_declared_type_are_stored(declared: LiteralType, value: Literal) -> None:
    given = Parameter(var=Variable(type=declared), default=value)
    assert (
        checked_launch_plan(PLAN, spec(default("x", given)), of_one(declared), NOW).spec.default_inputs.parameters["x"]
        == given
    )
    assert (
        checked_launch_plan(PLAN, spec(fixed("x", value)), of_one(declared), NOW).spec.fixed_inputs.literals["x"]
        == value
    )


@pytest.mark.parametrize(("declared", "value"), [*OTHERS, *FOREIGN_COLORS])
def test_default_and_fixed_input_of_another_type_are_refused(declared: LiteralType, value: Literal) -> None:
    given = Parameter(var=Variable(type=declared), default=value)
    with pytest.raises(
        InvalidArgument, match=r"^Type mismatch for Parameter x in default_inputs has type .*, expected "
    ):
        checked_launch_plan(PLAN, spec(default("x", given)), of_one(declared), NOW)
    with pytest.raises(InvalidArgument, match=r"^invalid fixed_input wrong type x, expected "):
        checked_launch_plan(PLAN, spec(fixed("x", value)), of_one(declared), NOW)


def test_default_declared_as_text_must_be_a_value_of_the_workflows_enum() -> None:
    colors, text = LiteralType(enum_type=EnumType(values=["RED"])), LiteralType(simple=SimpleType.STRING)
    with pytest.raises(
        InvalidArgument, match=r"invalid default_input wrong type x, expected enum.* with the value \[one\]"
    ):
        checked_launch_plan(
            PLAN, spec(default("x", Parameter(var=Variable(type=text), default=TEXT))), of_one(colors), NOW
        )


def test_plan_nested_too_deeply_for_lists_is_refused() -> None:
    deep = ONE
    kind = INTEGER
    for _ in range(47):
        deep = Literal(collection=LiteralCollection(literals=[deep]))
        kind = LiteralType(collection_type=kind)
    interface = TypedInterface(inputs=VariableMap(variables={"a": Variable(type=kind)}))
    with pytest.raises(InvalidArgument, match="nested too deeply"):
        checked_launch_plan(PLAN, spec(fixed("a", deep)), interface, NOW)


def test_stored_plan_as_sent_equals_the_registration() -> None:
    plan = checked_launch_plan(PLAN, spec(), INTERFACE, NOW)
    read_back = LaunchPlan()
    read_back.CopyFrom(registered_launch_plan(plan, NOW))
    read_back.closure.MergeFrom(LaunchPlanClosure(state=LaunchPlanState.ACTIVE, updated_at=Timestamp(seconds=1)))
    assert as_sent(read_back) == plan
