"""Checks of requests about signals (executions.md#signalservice)."""

from typing import Any

import pytest
from flyteidl.admin.signal_pb2 import SignalGetOrCreateRequest, SignalListRequest, SignalSetRequest
from flyteidl.core.identifier_pb2 import SignalIdentifier, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import Blob, Literal, LiteralCollection, Primitive, Scalar
from flyteidl.core.types_pb2 import LiteralType, SimpleType

from services.executions.rules import signals
from services.kit.errors import InvalidArgument
from tests.support.values import FITTING, FOREIGN_COLORS, OTHERS

EXECUTION = WorkflowExecutionIdentifier(project="p", domain="d", name="n")
ID = SignalIdentifier(signal_id="approve", execution_id=EXECUTION)
BOOLEAN, INTEGER, STRING, FLOAT = (
    LiteralType(simple=simple)
    for simple in (SimpleType.BOOLEAN, SimpleType.INTEGER, SimpleType.STRING, SimpleType.FLOAT)
)


def value(**primitive: Any) -> Literal:
    return Literal(scalar=Scalar(primitive=Primitive(**primitive)))


YES = value(boolean=True)
IDS: list[tuple[SignalIdentifier | None, str]] = [
    (None, "missing id"),
    (SignalIdentifier(signal_id="s"), "missing execution_id"),
    (SignalIdentifier(execution_id=EXECUTION), "missing signal_id"),
    (SignalIdentifier(signal_id="é" * 128, execution_id=EXECUTION), "size of signal_id exceeded length 255"),
    (
        SignalIdentifier(signal_id="s", execution_id=WorkflowExecutionIdentifier(domain="d", name="n")),
        "missing project",
    ),
    (
        SignalIdentifier(signal_id="s", execution_id=WorkflowExecutionIdentifier(project="p", name="n")),
        "missing domain",
    ),
    (
        SignalIdentifier(signal_id="s", execution_id=WorkflowExecutionIdentifier(project="p", domain="d")),
        "missing name",
    ),
]


@pytest.mark.parametrize(("identifier", "message"), IDS)
def test_incomplete_signal_id_is_refused(identifier: SignalIdentifier | None, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        signals.check_get_or_create(SignalGetOrCreateRequest(id=identifier))
    with pytest.raises(InvalidArgument, match=message):
        signals.check_set(SignalSetRequest(id=identifier))


def test_list_without_a_complete_execution_id_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="missing execution_id"):
        signals.check_list(SignalListRequest())
    nameless = SignalListRequest(workflow_execution_id=WorkflowExecutionIdentifier(project="p", domain="d"))
    with pytest.raises(InvalidArgument, match="missing name"):
        signals.check_list(nameless)
    signals.check_list(SignalListRequest(workflow_execution_id=EXECUTION))


def test_request_without_type_or_value_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="missing type"):
        signals.check_get_or_create(SignalGetOrCreateRequest(id=ID))
    with pytest.raises(InvalidArgument, match="missing value"):
        signals.check_set(SignalSetRequest(id=ID))
    signals.check_get_or_create(SignalGetOrCreateRequest(id=ID, type=BOOLEAN))
    signals.check_set(SignalSetRequest(id=ID, value=YES))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (value(string_value="x" * signals.MAX_VALUE_BYTES), "size of value exceeded 262144 bytes"),
    ],
)
def test_large_value_is_refused(bad: Literal, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        signals.check_set(SignalSetRequest(id=ID, value=bad))


@pytest.mark.parametrize(("declared", "given"), FITTING)
def test_value_that_can_be_cast_to_the_declared_type_is_accepted(declared: LiteralType, given: Literal) -> None:
    signals.check_fits(given, declared)


@pytest.mark.parametrize(("declared", "given"), OTHERS)
def test_a_value_of_another_type_is_refused(declared: LiteralType, given: Literal) -> None:
    with pytest.raises(InvalidArgument, match=r"^requested signal value .+ is not castable to existing signal type "):
        signals.check_fits(given, declared)


@pytest.mark.parametrize(("declared", "given"), FOREIGN_COLORS)
def test_value_outside_an_enum_is_refused(declared: LiteralType, given: Literal) -> None:
    with pytest.raises(InvalidArgument, match=r"with the value \[.*is not castable to existing signal type"):
        signals.check_fits(given, declared)


def test_a_value_without_a_type_is_refused() -> None:
    for given in (Literal(), Literal(scalar=Scalar(blob=Blob(uri="s3://b/k")))):
        with pytest.raises(InvalidArgument, match="its type cannot be told"):
            signals.check_fits(given, BOOLEAN)


def test_type_too_large_to_compare_is_refused_soon() -> None:
    given = value(integer=1)
    for _ in range(40):
        given = Literal(collection=LiteralCollection(literals=[given, value(string_value="s"), YES]))
    with pytest.raises(InvalidArgument, match=r"too large to compare|is not castable"):
        signals.check_fits(given, BOOLEAN)
