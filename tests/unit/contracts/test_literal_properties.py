"""Every literal has a type or none, whatever its contents."""

from typing import Any

from flyteidl.core.literals_pb2 import Literal, LiteralCollection, LiteralMap
from flyteidl.core.types_pb2 import LiteralType
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.casting import castable
from services.contracts.literals import literal_type

WRITTEN: list[dict[str, Any]] = [
    {},
    {"hash": "h"},
    {"scalar": {}},
    {"scalar": {"primitive": {}}},
    {"scalar": {"primitive": {"integer": 1}}},
    {"scalar": {"primitive": {"stringValue": "a"}}},
    {"scalar": {"blob": {}}},
    {"scalar": {"blob": {"metadata": {"type": {"format": "csv"}}}}},
    {"scalar": {"noneType": {}}},
    {"scalar": {"structuredDataset": {}}},
    {"scalar": {"binary": {"tag": "msgpack"}}},
    {"scalar": {"generic": {"a": 1}}},
    {"offloadedMetadata": {"inferredType": {"simple": "INTEGER"}}},
    {"offloadedMetadata": {}},
]
LEAVES = st.sampled_from(WRITTEN).map(lambda literal: ParseDict(literal, Literal()))


def variant(value: Literal) -> Literal:
    literal = Literal()
    literal.scalar.union.value.CopyFrom(value)
    literal.scalar.union.type.CopyFrom(literal_type(value) or LiteralType())
    return literal


LITERALS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: Literal(collection=LiteralCollection(literals=items))),
        st.dictionaries(st.text(max_size=2), inner, max_size=3).map(
            lambda items: Literal(map=LiteralMap(literals=items))
        ),
        inner.map(variant),
    ),
    max_leaves=10,
)


@given(LITERALS)
def test_type_is_found_or_not_and_fits_itself(literal: Literal) -> None:
    found = literal_type(literal)
    assert found is None or castable(found, found)


@given(st.lists(LITERALS, max_size=4).flatmap(lambda items: st.tuples(st.just(items), st.permutations(items))))
def test_order_of_a_list_does_not_change_its_type(lists: tuple[list[Literal], list[Literal]]) -> None:
    one, other = (literal_type(Literal(collection=LiteralCollection(literals=items))) for items in lists)
    assert one == other
