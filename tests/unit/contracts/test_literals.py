"""Types of literals (compiler.md#literal-types)."""

from typing import Any

import pytest
from flyteidl.core.literals_pb2 import Literal
from flyteidl.core.types_pb2 import LiteralType
from google.protobuf.json_format import ParseDict

from services.contracts.literals import literal_type

Json = dict[str, Any]


def scalar(**value: object) -> Json:
    return {"scalar": value}


def primitive(**value: object) -> Json:
    return scalar(primitive=value)


def many(*literals: Json) -> Json:
    return {"collection": {"literals": list(literals)}}


def one_of(value: Json, literal_type: Json) -> Json:
    return scalar(union={"value": value, "type": literal_type})


def collection_of(inner: Json) -> Json:
    return {"collectionType": inner}


def union_of(*variants: Json) -> Json:
    return {"unionType": {"variants": list(variants)}}


INTEGER, STRING, NONE = {"simple": "INTEGER"}, {"simple": "STRING"}, {"simple": "NONE"}
ONE, TEXT = primitive(integer=1), primitive(stringValue="a")
VARIANT = one_of(ONE, INTEGER)
MIXED = union_of(union_of(INTEGER), union_of(STRING))

TYPES: dict[str, tuple[Json, Json | None]] = {
    "integer": (ONE, INTEGER),
    "float": (primitive(floatValue=0), {"simple": "FLOAT"}),
    "string": (primitive(stringValue=""), STRING),
    "boolean": (primitive(boolean=False), {"simple": "BOOLEAN"}),
    "datetime": (primitive(datetime="2024-01-01T00:00:00Z"), {"simple": "DATETIME"}),
    "duration": (primitive(duration="1s"), {"simple": "DURATION"}),
    "primitive of nothing": (primitive(), NONE),
    "blob": (scalar(blob={"metadata": {"type": {"format": "csv"}}}), {"blob": {"format": "csv"}}),
    "blob without type": (scalar(blob={"metadata": {}}), {"blob": {}}),
    "blob without metadata": (scalar(blob={}), None),
    "binary": (scalar(binary={}), {"simple": "BINARY"}),
    "messagepack": (scalar(binary={"tag": "msgpack"}), {"simple": "STRUCT"}),
    "schema": (
        scalar(schema={"type": {"columns": [{"name": "a"}]}}),
        {"schema": {"columns": [{"name": "a"}]}},
    ),
    "schema without type": (scalar(schema={}), {"schema": {}}),
    "dataset": (
        scalar(structuredDataset={"metadata": {"structuredDatasetType": {"format": "csv"}}}),
        {"structuredDatasetType": {"format": "csv"}},
    ),
    "dataset without metadata": (scalar(structuredDataset={}), {"structuredDatasetType": {}}),
    "none": (scalar(noneType={}), NONE),
    "error": (scalar(error={}), {"simple": "ERROR"}),
    "generic": (scalar(generic={}), {"simple": "STRUCT"}),
    "union": (VARIANT, union_of(INTEGER)),
    "scalar of nothing": (scalar(), None),
    "nothing": ({}, None),
    "only a hash": ({"hash": "h"}, None),
    "offloaded": ({"offloadedMetadata": {"inferredType": collection_of(STRING)}}, collection_of(STRING)),
    "offloaded of no type": ({"offloadedMetadata": {}}, None),
    "empty list": (many(), collection_of(NONE)),
    "list": (many(ONE, ONE), collection_of(INTEGER)),
    "mixed list": (many(TEXT, ONE, TEXT), collection_of(union_of(INTEGER, STRING))),
    "list of variants": (many(VARIANT, one_of(TEXT, STRING)), collection_of(MIXED)),
    "list of a list and an empty one": (many(many(TEXT), many()), collection_of(collection_of(STRING))),
    "list of an empty list": (many(many()), collection_of(collection_of(NONE))),
    "list with something unknown": (many(ONE, {}), None),
    "lists of one variant each": (
        many(many(VARIANT), many(one_of(TEXT, STRING))),
        collection_of(collection_of(union_of(INTEGER, STRING))),
    ),
    "map": ({"map": {"literals": {"k": ONE}}}, {"mapValueType": INTEGER}),
    "empty map": ({"map": {}}, {"mapValueType": NONE}),
    "mixed map": ({"map": {"literals": {"a": TEXT, "b": ONE}}}, {"mapValueType": union_of(INTEGER, STRING)}),
    "map with something unknown": ({"map": {"literals": {"k": {}}}}, None),
}


@pytest.mark.parametrize(("literal", "expected"), TYPES.values(), ids=TYPES)
def test_literal_type_of_each_kind_of_literal(literal: Json, expected: Json | None) -> None:
    found = literal_type(ParseDict(literal, Literal()))
    assert found == (None if expected is None else ParseDict(expected, LiteralType()))
