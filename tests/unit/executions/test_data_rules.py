"""Objects as the data RPCs return them."""

import pytest
from flyteidl.admin.node_execution_pb2 import NodeExecutionGetDataResponse
from flyteidl.core.literals_pb2 import Literal, LiteralCollection, LiteralMap
from flyteidl.service.dataproxy_pb2 import GetDataResponse
from google.protobuf.message import DecodeError

from services.executions.responses.data import data_fields
from services.executions.rules.data import Data, literals
from services.kit.protobuf.wire import message_field, string_field

# The entry of a map and its literal; each collection inside has two more.
OUTER_LEVELS = 2
MOST_LEVELS = 100


def nested(levels: int) -> bytes:
    """Return a serialized LiteralMap of `levels` levels, an even number."""
    literal = b""
    for _ in range((levels - OUTER_LEVELS) // 2):
        inner = message_field(LiteralCollection.LITERALS_FIELD_NUMBER, literal)
        literal = message_field(Literal.COLLECTION_FIELD_NUMBER, inner)
    return message_field(LiteralMap.LITERALS_FIELD_NUMBER, string_field(1, "x") + message_field(2, literal))


def test_literals_that_are_returned_can_be_parsed_in_every_response() -> None:
    content = literals(nested(MOST_LEVELS - 2))
    GetDataResponse.FromString(message_field(GetDataResponse.LITERAL_MAP_FIELD_NUMBER, content))
    data = Data(NodeExecutionGetDataResponse().inputs, content)
    NodeExecutionGetDataResponse.FromString(data_fields(NodeExecutionGetDataResponse, data, data))


def test_literals_that_are_too_deep_for_a_response_are_refused() -> None:
    LiteralMap.FromString(nested(MOST_LEVELS))
    with pytest.raises(DecodeError):
        literals(nested(MOST_LEVELS))
