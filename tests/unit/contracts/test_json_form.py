"""What JSON has no form for is found wherever it stands, and nothing else is."""

import math
from typing import Any

import pytest
from flyteidl.admin.launch_plan_pb2 import LaunchPlanSpec
from flyteidl.admin.task_pb2 import TaskSpec
from flyteidl.core.literals_pb2 import Literal, Primitive, Scalar
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToJson, SerializeToJsonError
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.json_form import check_json_form
from services.kit.errors import InvalidArgument


def custom(value: Any) -> TaskSpec:
    spec = TaskSpec()
    spec.template.custom.update({"deep": [{"er": value}], "fine": 1.5})
    return spec


def timeout(seconds: int, nanos: int = 0) -> TaskSpec:
    spec = TaskSpec()
    spec.template.metadata.timeout.CopyFrom(Duration(seconds=seconds, nanos=nanos))
    return spec


def fixed(primitive: Primitive) -> LaunchPlanSpec:
    spec = LaunchPlanSpec()
    literal = Literal(scalar=Scalar(primitive=primitive))
    spec.fixed_inputs.literals["list"].collection.literals.extend([Literal(), literal])
    return spec


def at(seconds: int, nanos: int = 0) -> LaunchPlanSpec:
    return fixed(Primitive(datetime=Timestamp(seconds=seconds, nanos=nanos)))


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (custom(math.nan), "invalid value for fields: a number that is not finite"),
        (custom(math.inf), "a number that is not finite"),
        (timeout(10**15), "invalid value for timeout: a duration of more than ten thousand years"),
        (timeout(1, 10**9), "a duration of more than"),
        (timeout(1, -5), "whose parts have different signs"),
        (at(10**15), "invalid value for datetime: a time outside the years 1 to 9999"),
        (at(-(10**15)), "a time outside"),
        (at(0, -1), "a time outside"),
        (fixed(Primitive(duration=Duration(seconds=10**15))), "invalid value for duration"),
    ],
)
def test_what_json_has_no_form_for_is_refused(message: Message, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        check_json_form(message)


@pytest.mark.parametrize(
    "message",
    [
        TaskSpec(),
        custom(-0.0),
        custom(1e308),
        timeout(315_576_000_000),
        timeout(-1, -1),
        at(253_402_300_799, 999_999_999),
    ],
)
def test_everything_else_passes(message: Message) -> None:
    check_json_form(message)


@given(
    st.integers(-(2**40), 2**40), st.integers(-(2**31), 2**31 - 1), st.floats() | st.none() | st.text() | st.booleans()
)
def test_what_passes_can_be_told_as_json(seconds: int, nanos: int, value: Any) -> None:
    struct = Struct()
    struct.update({"x": value})
    for message in (timeout(seconds, nanos), at(seconds, nanos), struct):
        try:
            check_json_form(message)
        except InvalidArgument:
            with pytest.raises((ValueError, SerializeToJsonError)):
                MessageToJson(message)
        else:
            MessageToJson(message)
