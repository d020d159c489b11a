"""What may be registered as a launch plan, and what becomes of it (registry.md 7.1 to 7.3).

Inputs are looked at in the order of their names, all of them, so that the same request always gets the same answer.
A name that stands in both default and fixed inputs counts as a default input: it stays free.
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
from services.contracts.values import TypeMismatch, Untyped, type_mismatch
from services.kit.errors import InvalidArgument
from services.registry.rules.schedules import check_schedule

Variables = Mapping[str, Variable]

# Steps of comparing the types of all inputs of one plan: a second or so, which plans that people write stay far below.
MAX_STEPS = 1_000_000


def launch_plan(identifier: Identifier, spec: LaunchPlanSpec, interface: TypedInterface, now: datetime) -> LaunchPlan:
    """Return the launch plan to keep for `spec`, whose workflow has `interface`; raises InvalidArgument.

    Its default inputs are all inputs that are still free, the required ones included, as clients read them back
    (registry.md 7.3). It has no state and no times yet.
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
    _check_answerable(plan)
    return plan


def kept(plan: LaunchPlan, now: datetime) -> LaunchPlan:
    """Return what is kept of a plan registered at `now`: identifiers have no organisation here."""
    new = LaunchPlan()
    new.CopyFrom(plan)
    new.id.ClearField("org")
    new.closure.created_at.FromDatetime(now)
    return new


def as_registered(plan: LaunchPlan) -> LaunchPlan:
    """Return a plan that was read back without what the registration did not say: its state and times."""
    sent = LaunchPlan()
    sent.CopyFrom(plan)
    for field in ("state", "created_at", "updated_at"):
        sent.closure.ClearField(field)
    return sent


def expected_inputs(spec: LaunchPlanSpec, inputs: Variables) -> ParameterMap:
    """Return what an execution may still give: defaults as sent, and whatever is neither default nor fixed."""
    expected = ParameterMap()
    for name, variable in inputs.items():
        if name in spec.default_inputs.parameters:
            expected.parameters[name].CopyFrom(spec.default_inputs.parameters[name])
        elif name not in spec.fixed_inputs.literals:
            free = Variable(type=variable.type, description=variable.description)
            expected.parameters[name].CopyFrom(Parameter(var=free, required=True))
    return expected


def _check_answerable(plan: LaunchPlan) -> None:
    """Raise InvalidArgument unless clients can parse the deepest answer that the plan will be part of.

    A request may be nested just as deeply as a parser follows; an answer wraps it once more, and one plan too deep
    would make every list that holds it unreadable.
    """
    try:
        LaunchPlanList.FromString(LaunchPlanList(launch_plans=[plan]).SerializeToString())
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
    wanted = parameter.var.type
    if (instead := _misfit(name, parameter.default, wanted, comparison)) is not None:
        raise InvalidArgument(
            f"Type mismatch for Parameter {name} in default_inputs has type {instead.text}, "
            f"expected {type_text(wanted)}"
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
        wanted = inputs[name].type
        if not comparison.castable(defaults[name].var.type, wanted):
            raise InvalidArgument(f"invalid default_input wrong type {name}, expected {type_text(wanted)}")
        if (instead := _default_misfit(name, defaults[name], wanted, comparison)) is not None:
            raise InvalidArgument(
                f"invalid default_input wrong type {name}, expected {type_text(wanted)}, but got {instead.text}"
            )
    for name in sorted(fixed):
        if name not in inputs:
            raise InvalidArgument(f"unexpected fixed_input {name}")
        wanted = inputs[name].type
        if (instead := _misfit(name, fixed[name], wanted, comparison)) is not None:
            raise InvalidArgument(
                f"invalid fixed_input wrong type {name}, expected {type_text(wanted)}, but got {instead.text}"
            )


def _default_misfit(name: str, given: Parameter, wanted: LiteralType, comparison: Comparison) -> TypeMismatch | None:
    """Return what keeps a default from its input: a plan may declare any text where the workflow has an enum."""
    if given.WhichOneof("behavior") != "default" or given.var.type == wanted:
        return None
    told = Literal(scalar=Scalar(union=Union(value=given.default, type=given.var.type)))
    return _misfit(name, told, wanted, comparison)


def _misfit(name: str, literal: Literal, wanted: LiteralType, comparison: Comparison) -> TypeMismatch | None:
    try:
        return type_mismatch(literal, wanted, comparison)
    except Untyped as error:
        raise InvalidArgument(f"Failed to validate literal type for [{name}] with err: it has no known type") from error
