"""Values that some clients cannot read are found at any depth, and no others."""

import math
from typing import Any

import pytest
from flyteidl.admin.launch_plan_pb2 import LaunchPlanSpec
from flyteidl.admin.signal_pb2 import SignalGetOrCreateRequest, SignalList
from flyteidl.admin.task_pb2 import TaskSpec
from flyteidl.core.literals_pb2 import Literal, Primitive, Scalar
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToJson, SerializeToJsonError
from google.protobuf.message import DecodeError, Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from services.kit.protobuf.readable import (
    JSON_REPLY_RULE,
    MOST_LEVELS,
    REPLY_LEVELS,
    REQUEST_RULE,
    UnreadableValue,
    depth_check,
    nested_parser,
)
from services.kit.protobuf.wire import message_field
from tests.support.poisons import groups


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


DATETIME = "fixed_inputs.literals.collection.literals.scalar.primitive.datetime"


@pytest.mark.parametrize(
    ("message", "path", "fault"),
    [
        (custom(math.nan), "template.custom", "a number that is not finite"),
        (custom(math.inf), "template.custom", "a number that is not finite"),
        (timeout(10**15), "template.metadata.timeout", "a duration of more than ten thousand years"),
        (timeout(1, 10**9), "template.metadata.timeout", "a duration of more than ten thousand years"),
        (timeout(1, -5), "template.metadata.timeout", "a duration whose parts have different signs"),
        (at(253_402_300_800), DATETIME, "timestamp (seconds:253402300800 nanos:0) after 9999-12-31"),
        (at(-62_135_596_801), DATETIME, "timestamp (seconds:-62135596801 nanos:0) before 0001-01-01"),
        (at(0, -1), DATETIME, "timestamp (seconds:0 nanos:-1) has out-of-range nanos"),
        (at(0, 10**9), DATETIME, "timestamp (seconds:0 nanos:1000000000) has out-of-range nanos"),
        (Struct(fields={"x": Value(number_value=math.nan)}), "", "a number that is not finite"),
    ],
)
def test_a_value_without_a_json_form_is_found_with_its_path(message: Message, path: str, fault: str) -> None:
    for rule in (REQUEST_RULE, JSON_REPLY_RULE):
        with pytest.raises(UnreadableValue) as raised:
            rule.check(message)
        assert (raised.value.path, raised.value.fault) == (path, fault)


@pytest.mark.parametrize(
    "message",
    [
        TaskSpec(),
        custom(-0.0),
        custom(1e308),
        custom(None),
        timeout(315_576_000_000),
        timeout(-1, -1),
        at(253_402_300_799, 999_999_999),
        at(-62_135_596_800),
        fixed(Primitive(float_value=math.nan)),  # a string in JSON
    ],
)
def test_other_values_pass(message: Message) -> None:
    REQUEST_RULE.check(message)


def test_a_value_without_a_kind_is_refused_in_requests_only() -> None:
    spec = TaskSpec()
    spec.template.custom.fields["x"].list_value.values.add()
    with pytest.raises(UnreadableValue, match="of no kind"):
        REQUEST_RULE.check(spec)
    JSON_REPLY_RULE.check(spec)


@given(
    st.integers(-(2**40), 2**40), st.integers(-(2**31), 2**31 - 1), st.floats() | st.none() | st.text() | st.booleans()
)
def test_a_message_that_passes_can_be_written_as_json(seconds: int, nanos: int, value: Any) -> None:
    struct = Struct()
    struct.update({"x": value})
    for message in (timeout(seconds, nanos), at(seconds, nanos), struct):
        try:
            REQUEST_RULE.check(message)
        except UnreadableValue:
            with pytest.raises((ValueError, SerializeToJsonError)):
                MessageToJson(message)
        else:
            MessageToJson(message)


def nested(levels: int) -> bytes:
    """Return a request whose innermost message is `levels` below it."""
    request = SignalGetOrCreateRequest()
    innermost = request.type  # one level down, as each collection_type is one more
    for _ in range(levels - 1):
        innermost = innermost.collection_type
    innermost.simple = 1  # type: ignore[assignment]  # any
    return request.SerializeToString()


@pytest.mark.parametrize("make", [nested, groups])
def test_depth_is_limited_as_parsers_limit_it(make: Any) -> None:
    """The deepest message that passes is the deepest that can be parsed with LEVELS_OF_ANSWERS more around it."""
    check_depth = depth_check(SignalGetOrCreateRequest)
    for levels in range(MOST_LEVELS - REPLY_LEVELS - 3, MOST_LEVELS + 1):
        payload = make(levels)
        parsed = SignalGetOrCreateRequest.FromString(payload)
        if levels <= MOST_LEVELS - REPLY_LEVELS:
            check_depth(payload)
        else:
            with pytest.raises(UnreadableValue, match="nested too deeply"):
                check_depth(payload)
        # In a list it is one level deeper than in the request.
        listed = message_field(1, parsed.SerializeToString())
        if levels + 1 <= MOST_LEVELS:
            SignalList.FromString(listed)
        else:
            with pytest.raises(DecodeError):
                SignalList.FromString(listed)


@pytest.mark.parametrize("size", [0, 100, 1000, 10_000])
def test_nested_parser_returns_the_message(size: int) -> None:
    message = custom("x" * size)
    message.template.id.name = "task"
    parsed: Any = nested_parser(TaskSpec)(message.SerializeToString())
    assert parsed == message
    parsed.template.id.name = "changed"
    message.MergeFrom(parsed)
    assert message.template.id.name == "changed"


@pytest.mark.parametrize("size", [100, 1000, 10_000])
def test_nested_parser_reports_what_is_no_message(size: int) -> None:
    with pytest.raises(DecodeError):
        nested_parser(TaskSpec)(custom("x" * size).SerializeToString()[:-1])
