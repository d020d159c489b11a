"""Which types are castable to which (compiler.md#castable-types)."""

from typing import Any

import pytest
from flyteidl.core.types_pb2 import LiteralType
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.casting import MAX_STEPS, Comparison, TypesTooLarge, castable

Json = dict[str, Any]


def simple(name: str, **more: object) -> Json:
    return {"simple": name, **more}


def tag(literal_type: Json, name: str) -> Json:
    return {**literal_type, "structure": {"tag": name}}


def union(*variants: Json) -> Json:
    return {"unionType": {"variants": list(variants)}}


def listing(inner: Json) -> Json:
    return {"collectionType": inner}


def mapping(inner: Json) -> Json:
    return {"mapValueType": inner}


def enum(*values: str) -> Json:
    return {"enumType": {"values": list(values)}}


def blob(fmt: str = "", dimensionality: str = "SINGLE") -> Json:
    return {"blob": {"format": fmt, "dimensionality": dimensionality}}


def schema(**columns: str) -> Json:
    return {"schema": {"columns": [{"name": name, "type": kind} for name, kind in columns.items()]}}


def dataset(fmt: str = "", **columns: Json) -> Json:
    listed = [{"name": name, "literalType": kind} for name, kind in columns.items()]
    return {"structuredDatasetType": {"format": fmt, "columns": listed}}


INTEGER, FLOAT, STRING, NONE = simple("INTEGER"), simple("FLOAT"), simple("STRING"), simple("NONE")
DATETIME, STRUCT, BINARY, ERROR = simple("DATETIME"), simple("STRUCT"), simple("BINARY"), simple("ERROR")
A, B, C = STRING, INTEGER, FLOAT
CLASS = simple("STRUCT", metadata={"type": "object", "properties": {"a": {"type": "integer"}}})
OTHER = simple("STRUCT", metadata={"type": "object", "properties": {"b": {"type": "integer"}}})

YES = {
    "equal": (INTEGER, INTEGER),
    "binary": (BINARY, BINARY),
    "error": (ERROR, ERROR),
    "nothing set": ({}, {}),
    "annotation ignored": (simple("STRING", annotation={"annotations": {"a": 1}}), STRING),
    "metadata ignored": (simple("STRING", metadata={"a": 1}), STRING),
    "none": (NONE, NONE),
    "tagged none": (tag(NONE, "x"), NONE),
    "enum to string": (enum("x"), STRING),
    "tagged enum to string": (tag(enum("x"), "t"), STRING),
    "string to enum": (STRING, enum("x")),
    "same enum": (enum("x", "y"), enum("x", "y")),
    "same tag": (tag(STRING, "a"), tag(STRING, "a")),
    "untagged to tagged": (STRING, tag(STRING, "a")),
    "struct without metadata": (STRUCT, CLASS),
    "struct to one without metadata": (CLASS, STRUCT),
    "same class": (CLASS, CLASS),
    "variant of a union": (INTEGER, union(INTEGER, STRING)),
    "tag selects": (tag(STRING, "str"), union(tag(STRING, "str"), tag(STRING, "other"))),
    "smaller union": (union(A, B), union(A, B, C)),
    "union with a variant that fits twice": (union(A), union(A, A)),
    "union of one": (union(INTEGER), INTEGER),
    "list of union": (listing(INTEGER), listing(union(INTEGER, STRING))),
    "empty list": (listing(NONE), listing(CLASS)),
    "empty list of lists": (listing(NONE), listing(listing(STRING))),
    "empty map": (mapping(NONE), mapping(listing(INTEGER))),
    "map": (mapping(INTEGER), mapping(INTEGER)),
    "blob without format": (blob(), blob("csv")),
    "blob for any format": (blob("csv"), blob()),
    "folder for file": (blob("csv", "MULTIPART"), blob("csv")),
    "schema without columns": (schema(), schema(a="INTEGER")),
    "schema for any columns": (schema(a="INTEGER"), schema()),
    "more columns": (schema(a="INTEGER", b="FLOAT"), schema(b="FLOAT")),
    "parquet dataset to schema": (dataset("PARQUET", a=INTEGER), schema(a="INTEGER")),
    "dataset without columns to schema": (dataset(), schema(a="INTEGER")),
    "schema to dataset": (schema(a="DURATION"), dataset("parquet", a=simple("DURATION"))),
    "schema to dataset without columns": (schema(a="DURATION"), dataset()),
    "none to dataset": (NONE, dataset("csv", a=INTEGER)),
    "dataset of any format": (dataset("csv"), dataset()),
    "formats in other case": (dataset("CSV"), dataset("csv")),
    "dataset columns cast": (dataset(a=INTEGER, b=NONE), dataset(a=union(INTEGER, STRING))),
    "external schema ignored": (
        {"structuredDatasetType": {"externalSchemaType": "arrow"}},
        {"structuredDatasetType": {"externalSchemaType": "other"}},
    ),
}

NO = {
    "no widening": (INTEGER, FLOAT),
    "no parsing": (DATETIME, STRING),
    "nothing set to something": ({}, NONE),
    "something to nothing set": (NONE, {}),
    "none to integer": (NONE, INTEGER),
    "integer to none": (INTEGER, NONE),
    "enum values differ": (enum("x", "y"), enum("m", "n")),
    "enum order differs": (enum("x", "y"), enum("y", "x")),
    "enum to integer": (enum("x"), INTEGER),
    "other tag": (tag(STRING, "a"), tag(STRING, "b")),
    "tagged to untagged": (tag(STRING, "a"), STRING),
    "other class": (CLASS, OTHER),
    "ambiguous variant": (STRING, union(tag(STRING, "str"), tag(STRING, "other"))),
    "larger union": (union(A, B, C), union(A, B)),
    "union to a variant": (union(INTEGER, NONE), INTEGER),
    "no variant": (FLOAT, union(INTEGER, STRING)),
    "empty union": (INTEGER, union()),
    "list of another": (listing(INTEGER), listing(FLOAT)),
    "list for list of lists": (listing(INTEGER), listing(listing(INTEGER))),
    "none for list": (NONE, listing(INTEGER)),
    "none for map": (NONE, mapping(INTEGER)),
    "map for list": (mapping(INTEGER), listing(INTEGER)),
    "a union of one inside a list": (listing(union(INTEGER)), listing(INTEGER)),
    "other blob format": (blob("csv"), blob("txt")),
    "none for blob": (NONE, blob()),
    "string for blob": (STRING, blob()),
    "fewer columns": (schema(a="INTEGER"), schema(a="INTEGER", b="FLOAT")),
    "other column type": (schema(a="INTEGER"), schema(a="FLOAT")),
    "none for schema": (NONE, schema()),
    "csv dataset to schema": (dataset("csv"), schema()),
    "dataset column is no plain type": (dataset(a=listing(INTEGER)), schema(a="INTEGER")),
    "schema to csv dataset": (schema(), dataset("csv")),
    "integer for dataset": (INTEGER, dataset()),
    "other dataset format": (dataset("csv"), dataset("parquet")),
    "dataset column missing": (dataset(a=INTEGER), dataset(b=INTEGER)),
    "dataset column of another type": (dataset(a=INTEGER), dataset(a=STRING)),
}


def parsed(literal_type: Json) -> LiteralType:
    return ParseDict(literal_type, LiteralType())


@pytest.mark.parametrize(("upstream", "downstream"), YES.values(), ids=YES)
def test_castable_types(upstream: Json, downstream: Json) -> None:
    assert castable(parsed(upstream), parsed(downstream))


@pytest.mark.parametrize(("upstream", "downstream"), NO.values(), ids=NO)
def test_types_that_are_not_castable(upstream: Json, downstream: Json) -> None:
    assert not castable(parsed(upstream), parsed(downstream))


LEAVES = st.sampled_from([*YES.values(), *NO.values()]).flatmap(st.sampled_from).map(parsed)


def wrapped(inner: st.SearchStrategy[LiteralType]) -> st.SearchStrategy[LiteralType]:
    return st.one_of(
        inner.map(lambda each: LiteralType(collection_type=each)),
        inner.map(lambda each: LiteralType(map_value_type=each)),
        st.lists(inner, max_size=3).map(lambda each: LiteralType(union_type={"variants": each})),
        st.dictionaries(st.text(max_size=2), inner, max_size=2).map(
            lambda each: LiteralType(
                structured_dataset_type={"columns": [{"name": n, "literal_type": t} for n, t in each.items()]}
            )
        ),
    )


TYPES = st.recursive(LEAVES, wrapped, max_leaves=8)


@given(TYPES)
def test_every_type_is_castable_to_itself(literal_type: LiteralType) -> None:
    assert castable(literal_type, literal_type)


@given(TYPES, TYPES)
def test_castable_returns_a_bool_and_leaves_its_arguments(one: LiteralType, other: LiteralType) -> None:
    before = one.SerializeToString(deterministic=True), other.SerializeToString(deterministic=True)
    assert castable(one, other) in (True, False)
    assert before == (one.SerializeToString(deterministic=True), other.SerializeToString(deterministic=True))


def test_nested_unions_are_compared_once() -> None:
    upstream, downstream = parsed(INTEGER), parsed(STRING)
    for _ in range(45):
        upstream = LiteralType(union_type={"variants": [upstream]})
        downstream = LiteralType(union_type={"variants": [downstream]})
    comparison = Comparison(10_000)
    assert not comparison.castable(upstream, downstream)


def test_types_too_large_to_compare_do_not_fit() -> None:
    variants = [enum(str(i)) for i in range(700)]
    upstream, downstream = parsed(union(*variants)), parsed(union(*reversed(variants)))
    assert not castable(upstream, downstream)
    with pytest.raises(TypesTooLarge):
        Comparison(MAX_STEPS).castable(upstream, downstream)
