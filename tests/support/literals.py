"""Conversion between literals and plain Python values, and resolution of bindings."""

from collections.abc import Iterable, Mapping
from typing import Any

from flyteidl.core.literals_pb2 import (
    Binding,
    BindingData,
    Literal,
    LiteralCollection,
    LiteralMap,
    Primitive,
    Scalar,
    Void,
)


def to_literals(values: Mapping[str, Any]) -> LiteralMap:
    """Return literals of `values`, by name."""
    return LiteralMap(literals={name: to_literal(value) for name, value in values.items()})


def to_literal(value: Any) -> Literal:
    """Return the literal of a number, string, list or mapping with string keys; a literal itself unchanged."""
    if isinstance(value, Literal):
        return value
    if value is None:
        return Literal(scalar=Scalar(none_type=Void()))
    if isinstance(value, list):
        return Literal(collection=LiteralCollection(literals=map(to_literal, value)))
    if isinstance(value, Mapping):
        return Literal(map=to_literals(value))
    return Literal(scalar=Scalar(primitive=_primitive(value)))


def _primitive(value: Any) -> Primitive:
    if isinstance(value, bool):
        return Primitive(boolean=value)
    if isinstance(value, int):
        return Primitive(integer=value)
    if isinstance(value, float):
        return Primitive(float_value=value)
    if isinstance(value, str):
        return Primitive(string_value=value)
    raise TypeError(f"no literal for {type(value).__name__}")


def python_values(values: LiteralMap) -> dict[str, Any]:
    """Return plain values of `values`, by name."""
    return {name: python_value(literal) for name, literal in values.literals.items()}


def python_value(literal: Literal) -> Any:
    """Return the plain value of a primitive, collection or map; other literals unchanged."""
    kind = literal.WhichOneof("value")
    if kind == "collection":
        return [python_value(item) for item in literal.collection.literals]
    if kind == "map":
        return python_values(literal.map)
    if kind == "scalar" and literal.scalar.HasField("primitive"):
        primitive = literal.scalar.primitive
        name = primitive.WhichOneof("value")
        return literal if name is None else getattr(primitive, name)
    return None if kind == "scalar" and literal.scalar.HasField("none_type") else literal


def bound(bindings: Iterable[Binding], values: Mapping[str, LiteralMap]) -> LiteralMap:
    """Resolve `bindings`; `values` has the outputs of every node by id, and the workflow's inputs as ""."""
    return LiteralMap(literals={binding.var: _resolved(binding.binding, values) for binding in bindings})


def _resolved(data: BindingData, values: Mapping[str, LiteralMap]) -> Literal:
    kind = data.WhichOneof("value")
    if kind == "promise":
        return _attribute(values[data.promise.node_id].literals[data.promise.var], data)
    if kind == "collection":
        items = [_resolved(item, values) for item in data.collection.bindings]
        return Literal(collection=LiteralCollection(literals=items))
    if kind == "map":
        return to_literal({name: _resolved(item, values) for name, item in data.map.bindings.items()})
    return Literal(scalar=data.scalar)


def _attribute(literal: Literal, data: BindingData) -> Literal:
    for step in data.promise.attr_path:
        if step.HasField("int_value"):
            literal = literal.collection.literals[step.int_value]
        else:
            literal = literal.map.literals[step.string_value]
    return literal
