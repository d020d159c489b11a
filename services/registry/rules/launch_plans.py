"""Checks of launch plans, and what is stored of them (registry.md#createlaunchplan-steps).

Inputs are checked in the order of their names, so the same request always gets the same response. A name in both
default and fixed inputs counts as a default input: it stays free (registry.md#launch-plan-inputs).
"""

from collections.abc import Mapping
from datetime import datetime

from flyteidl.admin.launch_plan_pb2 import LaunchPlan, LaunchPlanList, LaunchPlanSpec
from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.core.interface_pb2 import Parameter, ParameterMap, TypedInterface, Variable
from flyteidl.core.literals_pb2 import Literal, Scalar, Union
from flyteidl.core.types_pb2 import LiteralType
from google.protobuf.message import DecodeError

from services.contracts.casting import Comparison, TypesTooLarge
from services.contracts.execution_config import check_config
from services.contracts.literals import type_text
from services.contracts.notifications import check_notifications
from services.contracts.values import TypeMismatch, UntypedValue, type_mismatch
from services.kit.errors import InvalidArgument
from services.kit.protobuf.wire import message_field
from services.registry.rules.schedules import check_schedule

Variables = Mapping[str, Variable]

# Steps of comparing the types of all inputs of one plan: a second or two; plans that people write need far fewer.
MAX_STEPS = 500_000


def checked_launch_plan(
    identifier: Identifier, spec: LaunchPlanSpec, interface: TypedInterface, now: datetime
) -> LaunchPlan:
    """Check `spec`, whose workflow has `interface`, and return its launch plan; raise InvalidArgument.

    The default inputs of the launch plan are all inputs that are free, required ones included, as clients expect to
    read them (registry.md#expected-inputs). It has no state and no times yet.
    """
    inputs = interface.inputs.variables
    check_config(spec)
    try:
        _check_inputs(spec, inputs, Comparison(MAX_STEPS))
    except TypesTooLarge as error:
        raise InvalidArgument("the types of the launch plan's inputs are too large to compare") from error
    expected = expected_inputs(spec, inputs)
    check_schedule(spec.entity_metadata.schedule, expected.parameters, now)
    check_notifications(spec.entity_metadata.notifications)
    if spec.entity_metadata.HasField("launch_conditions"):
        conditions = spec.entity_metadata.launch_conditions.type_url
        raise InvalidArgument(f"Launch condition must be empty, found {conditions}")
    plan = LaunchPlan(id=identifier, spec=spec)
    plan.spec.default_inputs.CopyFrom(expected)
    plan.closure.expected_inputs.CopyFrom(expected)
    if interface.HasField("outputs"):
        plan.closure.expected_outputs.CopyFrom(interface.outputs)
    _check_depth(plan)
    return plan


def registered_launch_plan(plan: LaunchPlan, now: datetime) -> LaunchPlan:
    """Return what is stored of a plan registered at `now`; its id has no organisation (common.md#organisations)."""
    new = LaunchPlan()
    new.CopyFrom(plan)
    new.id.ClearField("org")
    new.closure.created_at.FromDatetime(now)
    return new


def as_sent(plan: LaunchPlan) -> LaunchPlan:
    """Return a stored plan without state and times, which a registration does not contain."""
    sent = LaunchPlan()
    sent.CopyFrom(plan)
    for field in ("state", "created_at", "updated_at"):
        sent.closure.ClearField(field)
    return sent


def expected_inputs(spec: LaunchPlanSpec, inputs: Variables) -> ParameterMap:
    """Return the inputs that an execution may set: defaults as sent, and inputs that are neither default nor fixed."""
    expected = ParameterMap()
    for name, variable in inputs.items():
        if name in spec.default_inputs.parameters:
            expected.parameters[name].CopyFrom(spec.default_inputs.parameters[name])
        elif name not in spec.fixed_inputs.literals:
            free = Variable(type=variable.type, description=variable.description)
            expected.parameters[name].CopyFrom(Parameter(var=free, required=True))
    return expected


def _check_depth(plan: LaunchPlan) -> None:
    """Raise InvalidArgument unless clients can parse a list that contains the plan.

    A request may be nested as deeply as parsers allow; a list nests the plan deeper, and a single plan that is too deep
    would make every list with it unreadable.
    """
    try:
        # Not by a copy of the plan, which would take another fifth of a second for a map of 150,000 entries.
        LaunchPlanList.FromString(message_field(LaunchPlanList.LAUNCH_PLANS_FIELD_NUMBER, plan.SerializeToString()))
    except DecodeError as error:
        raise InvalidArgument("invalid value for spec: nested too deeply") from error


def _check_inputs(spec: LaunchPlanSpec, inputs: Variables, comparison: Comparison) -> None:
    _check_fixed_inputs(spec.fixed_inputs.literals)
    _check_default_inputs(spec.default_inputs.parameters, comparison)
    _check_against_workflow(spec, inputs, comparison)


def _check_fixed_inputs(literals: Mapping[str, Literal]) -> None:
    for name in sorted(literals):
        if not name:
            raise InvalidArgument("missing key in fixed_inputs")
        if literals[name].WhichOneof("value") is None:
            raise InvalidArgument(f"missing valid literal in fixed_inputs {name}")


def _check_default_inputs(parameters: Mapping[str, Parameter], comparison: Comparison) -> None:
    for name in sorted(parameters):
        if parameters[name].WhichOneof("behavior") == "artifact_query":
            raise InvalidArgument(f"artifact mode not enabled but query found default_inputs {name}")
    for name in sorted(parameters):
        if not name:
            raise InvalidArgument("missing key in default_inputs")
        _check_parameter(name, parameters[name], comparison)


def _check_parameter(name: str, parameter: Parameter, comparison: Comparison) -> None:
    if not parameter.HasField("var") or not parameter.var.HasField("type"):
        raise InvalidArgument(
            f"The Variable component of the Parameter {name} in default_inputs either is missing, or has a missing Type"
        )
    if parameter.WhichOneof("behavior") != "default":
        if not parameter.required:
            raise InvalidArgument(
                f"Invalid variable {name} in default_inputs - variable has neither default, nor is required. "
                "One must be specified"
            )
        return
    expected = parameter.var.type
    if (mismatch := _mismatch(name, parameter.default, expected, comparison)) is not None:
        raise InvalidArgument(
            f"Type mismatch for Parameter {name} in default_inputs has type {mismatch.text}, "
            f"expected {type_text(expected)}"
        )


def _check_against_workflow(spec: LaunchPlanSpec, inputs: Variables, comparison: Comparison) -> None:
    defaults, fixed = spec.default_inputs.parameters, spec.fixed_inputs.literals
    if not inputs:
        for kind, given in (("default", len(defaults)), ("fixed", len(fixed))):
            if given:
                raise InvalidArgument(f"invalid launch plan {kind} inputs, expected none but found {given}")
    for name in sorted(defaults):
        if name not in inputs:
            raise InvalidArgument(f"unexpected default_input {name}")
        expected = inputs[name].type
        if not comparison.castable(defaults[name].var.type, expected):
            comparison.spend(expected.ByteSize())  # for its text
            raise InvalidArgument(f"invalid default_input wrong type {name}, expected {type_text(expected)}")
        if (mismatch := _default_mismatch(name, defaults[name], expected, comparison)) is not None:
            raise InvalidArgument(
                f"invalid default_input wrong type {name}, expected {type_text(expected)}, but got {mismatch.text}"
            )
    for name in sorted(fixed):
        if name not in inputs:
            raise InvalidArgument(f"unexpected fixed_input {name}")
        expected = inputs[name].type
        if (mismatch := _mismatch(name, fixed[name], expected, comparison)) is not None:
            raise InvalidArgument(
                f"invalid fixed_input wrong type {name}, expected {type_text(expected)}, but got {mismatch.text}"
            )


def _default_mismatch(
    name: str, given: Parameter, expected: LiteralType, comparison: Comparison
) -> TypeMismatch | None:
    """Return why a default does not fit its input: a plan may declare any text where the workflow has an enum."""
    if given.WhichOneof("behavior") != "default" or given.var.type == expected:
        return None
    value = Literal(scalar=Scalar(union=Union(value=given.default, type=given.var.type)))
    return _mismatch(name, value, expected, comparison)


def _mismatch(name: str, literal: Literal, expected: LiteralType, comparison: Comparison) -> TypeMismatch | None:
    try:
        return type_mismatch(literal, expected, comparison)
    except UntypedValue as error:
        raise InvalidArgument(f"Failed to validate literal type for [{name}] with err: it has no known type") from error
