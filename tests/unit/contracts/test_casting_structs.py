"""Which dataclasses are castable to which (compiler.md#dataclass-schemas)."""

from typing import Any

import pytest
from flyteidl.core.types_pb2 import LiteralType
from google.protobuf.json_format import ParseDict

from services.contracts.casting import Comparison, castable

Json = dict[str, Any]

INTEGER, STRING, NUMBER = {"type": "integer"}, {"type": "string"}, {"type": "number"}
OPTIONAL = {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}


def model(title: str = "Foo", required: list[str] | None = None, **properties: Json | bool) -> Json:
    needed = list(properties) if required is None else required
    return {
        "type": "object",
        "title": title,
        "properties": properties,
        "additionalProperties": False,
        "required": needed,
    }


def referring(**definitions: Json) -> Json:
    """Return a schema as older clients write it: a reference to the first definition."""
    return {"$ref": f"#/definitions/{next(iter(definitions))}", "definitions": definitions}


PARENT = model("Parent", a=INTEGER)
CHILD = model("Child", ["a"], a=INTEGER, b=OPTIONAL)
TREE = {
    "$ref": "#/$defs/Tree",
    "$defs": {"Tree": model("Tree", ["n"], n=INTEGER, left={"$ref": "#/$defs/Tree"})},
}

YES = {
    "same": (PARENT, PARENT),
    "same, nested": (model(p=PARENT), model(p=PARENT)),
    "other title": (model("A", a=INTEGER), model("B", a=INTEGER)),
    "child for parent": (CHILD, PARENT),
    "child for parent, nested": (model(p=CHILD), model(p=PARENT)),
    "more properties": (model(a=INTEGER, b=STRING), model(b=STRING)),
    "not so many required": (model(a=INTEGER), model("F", [], a=INTEGER)),
    "required though not declared here": (model(a=INTEGER), {"type": "object", "required": ["a"]}),
    "equal documents that are no schema": ({"a": 1}, {"a": 1}),
    "references": (referring(A=PARENT), PARENT),
    "references both": (referring(A=model(p={"$ref": "#/definitions/B"}), B=CHILD), model(p=PARENT)),
    "one schema in allOf": (model(p={"allOf": [PARENT], "title": "P"}), model(p=PARENT)),
    "all of allOf": (model(a=INTEGER, b=STRING), {"allOf": [model(a=INTEGER), model(b=STRING)]}),
    "lists": (model(p={"type": "array", "items": CHILD}), model(p={"type": "array", "items": PARENT})),
    "lists of anything": (model(p={"type": "array", "items": CHILD}), model(p={"type": "array"})),
    "tuples": (
        model(p={"type": "array", "items": [INTEGER, CHILD]}),
        model(p={"type": "array", "items": [INTEGER, PARENT]}),
    ),
    "fewer values": (model(p={"enum": ["a"]}), model(p={"enum": ["b", "a"]})),
    "constant": (model(p={"const": "a"}), model(p={"enum": ["b", "a"]})),
    "values of any kind": (model(p={"enum": [1, None, {"a": [True]}]}), model(p={"enum": [{"a": [True]}, 1, None, 2]})),
    "optional": (model(p=OPTIONAL), model(p={"oneOf": [{"type": "null"}, INTEGER]})),
    "types in other order": (model(p={"type": ["null", "integer"]}), model(p={"type": ["integer", "null"]})),
    "anything expected": (model(p=INTEGER), model(p=True)),
    "recursive": (TREE, {**TREE, "title": "Tree"}),
    "strange names in references": ({"$ref": "#/d/a~1b%25", "d": {"a/b%": PARENT}}, PARENT),
}

NO = {
    "parent for child": (PARENT, CHILD),
    "unrelated": (model(p=PARENT), model(p=model("Other", z=STRING))),
    "other type": (model(a=STRING), PARENT),
    "no widening": (model(a=INTEGER), model(a=NUMBER)),
    "untyped": (model(a={}), PARENT),
    "nothing": (model(a=False), PARENT),
    "required and absent": (PARENT, {"type": "object", "required": ["z"]}),
    "other format": (model(p={"type": "string", "format": "date"}), model(p={"type": "string", "format": "time"})),
    "no format": (model(p=STRING), model(p={"type": "string", "format": "date"})),
    "other items": (model(p={"type": "array", "items": STRING}), model(p={"type": "array", "items": INTEGER})),
    "items of any type": (model(p={"type": "array"}), model(p={"type": "array", "items": INTEGER})),
    "shorter tuple": (
        model(p={"type": "array", "prefixItems": [INTEGER]}),
        model(p={"type": "array", "prefixItems": [INTEGER, INTEGER]}),
    ),
    "tuple for list": (model(p={"type": "array", "items": [INTEGER]}), model(p={"type": "array", "items": INTEGER})),
    "more values": (model(p={"enum": ["a", "b"]}), model(p={"enum": ["a"]})),
    "true is not one": (model(p={"enum": [True]}), model(p={"enum": [1]})),
    "any value": (model(p=STRING), model(p={"type": "string", "enum": ["a"]})),
    "optional for required": (model(p=OPTIONAL), model(p=INTEGER)),
    "fewer variants": (model(p=INTEGER), model(p=OPTIONAL)),
    "not a type": (model(a={"type": "int"}), {**model(a={"type": "int"}), "title": "other"}),
    "type is a number": (model(a={"type": 1}), model("B", a={"type": 1})),
    "properties are a list": ({"type": "object", "properties": []}, PARENT),
    "required is an object": (PARENT, {"type": "object", "required": {}}),
    "required holds a list": (PARENT, {"type": "object", "required": [["a"]]}),
    "reference to nowhere": ({"$ref": "#/definitions/A"}, PARENT),
    "reference elsewhere": ({"$ref": "http://example.com"}, PARENT),
    "reference to itself": ({"$ref": "#"}, PARENT),
    "a property is a number": (model(a=INTEGER), {"type": "object", "properties": {"a": 1}}),
}


def struct(document: Json) -> LiteralType:
    return ParseDict({"simple": "STRUCT", "metadata": document}, LiteralType())


@pytest.mark.parametrize(("upstream", "downstream"), YES.values(), ids=YES)
def test_castable_types(upstream: Json, downstream: Json) -> None:
    assert castable(struct(upstream), struct(downstream))


@pytest.mark.parametrize(("upstream", "downstream"), NO.values(), ids=NO)
def test_types_that_are_not_castable(upstream: Json, downstream: Json) -> None:
    assert not castable(struct(upstream), struct(downstream))


def test_long_lists_of_values_are_compared_in_one_go() -> None:
    values = [str(number) for number in range(20_000)]
    one, other = model(p={"enum": values}), model("Other", p={"enum": list(reversed(values))})
    assert castable(struct(one), struct(other))


def test_dataclass_passed_on_by_many_nodes_is_compared_once() -> None:
    fields: dict[str, Any] = {f"p{number}": INTEGER for number in range(100)}
    child, parent = struct(model("Child", **fields, more=STRING)), struct(model("Parent", **fields))
    comparison = Comparison(50_000)
    assert all(comparison.castable(child, parent) for _ in range(500))


def test_references_nested_deeper_than_the_stack_do_not_fit() -> None:
    definitions = {f"C{i}": model(next={"$ref": f"#/definitions/C{i + 1}"}) for i in range(5000)}
    chain = referring(**definitions, C5000=PARENT)
    assert not castable(struct(chain), struct({**chain, "title": "other"}))
