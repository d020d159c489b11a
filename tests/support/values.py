"""Types, values that fit them, and values that do not: tables of them and Hypothesis strategies."""

from typing import Any

import pytest
from flyteidl.core.literals_pb2 import Literal
from flyteidl.core.types_pb2 import LiteralType
from google.protobuf.json_format import ParseDict
from hypothesis import strategies as st

Json = dict[str, Any]

INTEGER, FLOAT, STRING, BOOLEAN, NONE, STRUCT = (
    {"simple": name} for name in ("INTEGER", "FLOAT", "STRING", "BOOLEAN", "NONE", "STRUCT")
)
COLOR: Json = {"enumType": {"values": ["RED", "BLUE"]}}
DATASET: Json = {"structuredDatasetType": {}}
CSV: Json = {"blob": {"format": "csv"}}
NOTHING: Json = {"scalar": {"noneType": {}}}
# A value of a type that no type here has.
FOREIGN: Json = {"scalar": {"error": {"message": "foreign"}}}
_ENUM_TEXTS = ("RED", "BLUE")


def one(value: object) -> Json:
    """Return a primitive."""
    kind = {bool: "boolean", int: "integer", float: "floatValue", str: "stringValue"}[type(value)]
    return {"scalar": {"primitive": {kind: value}}}


def many(*literals: Json) -> Json:
    """Return a collection."""
    return {"collection": {"literals": list(literals)}}


def mapped(**literals: Json) -> Json:
    """Return a map."""
    return {"map": {"literals": literals}}


def variant(value: Json, literal_type: Json) -> Json:
    """Return a value of a union with the type of its variant."""
    return {"scalar": {"union": {"value": value, "type": literal_type}}}


def list_of(inner: Json) -> Json:
    """Return the type of lists of `inner`."""
    return {"collectionType": inner}


def map_of(inner: Json) -> Json:
    """Return the type of maps of `inner`."""
    return {"mapValueType": inner}


def any_of(*variants: Json) -> Json:
    """Return the type of unions of `variants`."""
    return {"unionType": {"variants": list(variants)}}


def optional(inner: Json) -> Json:
    """Return the type of unions of `inner` and none."""
    return any_of(inner, NONE)


def literal(written: Json) -> Literal:
    """Parse a literal."""
    return ParseDict(written, Literal())


def literal_type(written: Json) -> LiteralType:
    """Parse a type."""
    return ParseDict(written, LiteralType())


def _params(pairs: list[tuple[Json, Json]]) -> list[Any]:
    return [pytest.param(literal_type(kind), literal(value), id=str(at)) for at, (kind, value) in enumerate(pairs)]


ONE, TWO, EMPTY = one(1), one(2), many()
RED, GREEN = one("RED"), one("GREEN")
FITTING = _params(
    [
        (list_of(map_of(list_of(INTEGER))), many(mapped(a=many(ONE, TWO)), mapped())),
        (map_of(map_of(INTEGER)), mapped(a=mapped(), b=mapped(c=ONE))),
        (list_of(map_of(list_of(INTEGER))), many(mapped(a=many(ONE)), mapped(b=many()))),
        (list_of(list_of(list_of(INTEGER))), many(EMPTY, many(EMPTY, many(ONE)), many(EMPTY))),
        (list_of(INTEGER), EMPTY),
        (map_of(INTEGER), mapped()),
        (map_of(list_of(optional(map_of(STRING)))), mapped(a=EMPTY, b=many(NOTHING, mapped(), mapped(c=one("x"))))),
        (optional(list_of(map_of(INTEGER))), many(mapped(), mapped(a=ONE))),
        (list_of(any_of(list_of(INTEGER), map_of(list_of(INTEGER)))), many(EMPTY, mapped(a=EMPTY, b=many(ONE)))),
        (optional(INTEGER), ONE),
        (optional(INTEGER), NOTHING),
        (optional(INTEGER), variant(ONE, INTEGER)),
        (optional(INTEGER), variant(NOTHING, NONE)),
        (any_of(INTEGER, STRING), one("x")),
        (any_of(INTEGER), ONE),
        (INTEGER, variant(ONE, INTEGER)),
        (list_of(optional(INTEGER)), many(ONE, NOTHING)),
        (list_of(optional(INTEGER)), many(NOTHING)),
        (list_of(optional(INTEGER)), many(variant(ONE, INTEGER), variant(NOTHING, NONE))),
        (optional(DATASET), NOTHING),
        (optional(DATASET), variant(NOTHING, NONE)),
        (NONE, NOTHING),
        (CSV, {"scalar": {"blob": {"metadata": {"type": {"format": "csv"}}}}}),
        (COLOR, RED),
        (COLOR, variant(RED, COLOR)),
        (optional(COLOR), RED),
        (optional(COLOR), variant(NOTHING, NONE)),
        (list_of(optional(COLOR)), many(RED, NOTHING, variant(one("BLUE"), COLOR))),
        (any_of(COLOR, STRING), variant(GREEN, STRING)),
        (any_of(INTEGER, STRING, NONE), variant(variant(ONE, INTEGER), any_of(STRING, INTEGER))),
        (any_of(INTEGER, STRING, NONE), variant(NOTHING, any_of(NONE, INTEGER))),
        (map_of(list_of(COLOR)), mapped(a=EMPTY, b=many(RED))),
        (STRING, variant(RED, COLOR)),
    ]
)
"""Type and a value of it."""

OTHERS = _params(
    [
        (INTEGER, one(1.0)),
        (INTEGER, one("x")),
        (INTEGER, NOTHING),
        (FLOAT, ONE),
        (BOOLEAN, ONE),
        (list_of(INTEGER), ONE),
        (list_of(INTEGER), mapped()),
        (map_of(INTEGER), EMPTY),
        (list_of(INTEGER), many(ONE, NOTHING)),
        (list_of(INTEGER), many(NOTHING)),
        (list_of(INTEGER), many(ONE, EMPTY)),
        (list_of(INTEGER), many(ONE, one("x"))),
        (list_of(map_of(list_of(INTEGER))), many(mapped(a=many(ONE, one("x"))), mapped())),
        (list_of(map_of(list_of(INTEGER))), many(mapped(), EMPTY)),
        (map_of(map_of(INTEGER)), mapped(a=mapped(), b=mapped(c=one("x")))),
        (optional(INTEGER), one("x")),
        (optional(INTEGER), variant(one("x"), STRING)),
        (optional(INTEGER), variant(one("x"), INTEGER)),
        (optional(INTEGER), variant(ONE, any_of(INTEGER, STRING))),
        (optional(list_of(map_of(INTEGER))), many(mapped(), mapped(a=one("x")))),
        (list_of(optional(INTEGER)), many(ONE, EMPTY)),
        (CSV, {"scalar": {"blob": {"metadata": {"type": {"format": "txt"}}}}}),
        # Both variants fit, so the value is ambiguous.
        (any_of(list_of(INTEGER), list_of(STRING)), EMPTY),
    ]
)
"""Type and a value of another."""

FOREIGN_COLORS = _params(
    [
        (COLOR, GREEN),
        (COLOR, one("")),
        (COLOR, one("red")),
        (COLOR, variant(GREEN, COLOR)),
        (COLOR, variant(GREEN, STRING)),
        (optional(COLOR), GREEN),
        (optional(COLOR), variant(GREEN, COLOR)),
        (optional(COLOR), variant(GREEN, STRING)),
        (list_of(COLOR), many(RED, GREEN)),
        (map_of(COLOR), mapped(a=RED, b=GREEN)),
        (list_of(optional(COLOR)), many(NOTHING, GREEN)),
        (list_of(map_of(optional(COLOR))), many(mapped(), mapped(a=variant(GREEN, COLOR)))),
        (optional(list_of(COLOR)), variant(many(RED, GREEN), list_of(COLOR))),
        (any_of(COLOR, INTEGER), variant(GREEN, COLOR)),
        ({"enumType": {}}, GREEN),
    ]
)
"""A type with the enum of RED and BLUE, and a value with another text there."""

_PLAIN: list[tuple[Json, Json]] = [
    (INTEGER, ONE),
    (FLOAT, one(0.5)),
    (STRING, one("x")),
    (BOOLEAN, {"scalar": {"primitive": {"boolean": False}}}),
    (STRUCT, {"scalar": {"binary": {"tag": "msgpack"}}}),
    (CSV, {"scalar": {"blob": {"metadata": {"type": {"format": "csv"}}}}}),
    (DATASET, {"scalar": {"structuredDataset": {}}}),
    (NONE, NOTHING),
]


def _kind(written: Json) -> str:
    # A text could be of the enum as well.
    return "STRING" if written == COLOR else str(written.get("simple") or next(iter(written)))


def _unions(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    """Return unions no value of which fits two variants."""
    variants = st.lists(inner, min_size=1, max_size=3, unique_by=_kind)
    return variants.filter(lambda drawn: all("unionType" not in kind for kind in drawn)).map(
        lambda drawn: any_of(*drawn)
    )


TYPES: st.SearchStrategy[Json] = st.recursive(
    st.sampled_from([*(kind for kind, _ in _PLAIN), COLOR]),
    lambda inner: st.one_of(inner.map(list_of), inner.map(map_of), _unions(inner)),
    max_leaves=6,
)


def values(written: Json) -> st.SearchStrategy[Json]:
    """Return a strategy for values of a type, with empty lists and maps at every depth."""
    match written:
        case {"collectionType": inner}:
            return st.lists(values(inner), max_size=3).map(lambda drawn: many(*drawn))
        case {"mapValueType": inner}:
            return st.dictionaries(st.sampled_from("abc"), values(inner)).map(lambda drawn: mapped(**drawn))
        case {"unionType": {"variants": variants}}:
            return st.sampled_from(variants).flatmap(
                lambda kind: st.one_of(values(kind), values(kind).map(lambda drawn: variant(drawn, kind)))
            )
        case {"enumType": _}:
            return st.sampled_from(_ENUM_TEXTS).map(one)
    return st.sampled_from([value for kind, value in _PLAIN if kind == written])


def broken(written: Json) -> st.SearchStrategy[Json]:
    """Return a strategy for values of a type with one error in them, at any depth."""
    match written:
        case {"collectionType": inner}:
            lists = st.tuples(st.lists(values(inner), max_size=2), broken(inner), st.lists(values(inner), max_size=2))
            return lists.map(lambda drawn: many(*drawn[0], drawn[1], *drawn[2]))
        case {"mapValueType": inner}:
            maps = st.tuples(st.dictionaries(st.sampled_from("abc"), values(inner)), broken(inner))
            return maps.map(lambda drawn: mapped(**drawn[0], z=drawn[1]))
        case {"unionType": {"variants": variants}}:
            return st.sampled_from(variants).flatmap(
                lambda kind: st.just(variant(GREEN, kind)) if kind == COLOR else broken(kind)
            )
        case {"enumType": _}:
            return st.sampled_from([GREEN, FOREIGN])
    return st.just(FOREIGN)
