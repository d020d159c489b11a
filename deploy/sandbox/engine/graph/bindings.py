"""Values of bindings: constants, and outputs of other nodes with attribute paths (compiler.md#promises)."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from flyteidl.core.literals_pb2 import (
    Binary,
    Binding,
    BindingData,
    Literal,
    LiteralCollection,
    LiteralMap,
    Primitive,
    Scalar,
)
from flyteidl.core.types_pb2 import OutputReference, PromiseAttribute
from google.protobuf.struct_pb2 import Struct, Value

from deploy.sandbox.engine.graph.msgpack_values import select
from services.contracts.literals import MESSAGEPACK_TAG

# `o0`, or `[3].o0` for one element of an output that is a list.
_VARIABLE: Final = re.compile(r"(?:\[(?P<index>\d+)\]\.)?(?P<name>.+)", re.DOTALL)

OutputOf: TypeAlias = Callable[[str, str], Literal | None]
"""Returns the output of a node: its template id and the name of the output, aliases applied; None if it has none."""


class BindingFailed(Exception):  # same
    """A value that a binding refers to is not there."""


def resolve(bindings: Iterable[Binding], output_of: OutputOf) -> LiteralMap:
    """Return the values of `bindings` by variable.

    Raises:
        BindingFailed: A node has no such output, or the output no such attribute.
    """
    values = LiteralMap()
    for binding in bindings:
        values.literals[binding.var].CopyFrom(_value(binding.binding, output_of))
    return values


def _value(data: BindingData, output_of: OutputOf) -> Literal:
    kind = data.WhichOneof("value")
    if kind == "promise":
        return _promised(data.promise, output_of)
    if kind == "collection":
        items = [_value(item, output_of) for item in data.collection.bindings]
        return Literal(collection=LiteralCollection(literals=items))
    if kind == "map":
        members = {key: _value(item, output_of) for key, item in data.map.bindings.items()}
        return Literal(map=LiteralMap(literals=members))
    return Literal(scalar=data.scalar)


def _promised(promise: OutputReference, output_of: OutputOf) -> Literal:
    variable = _VARIABLE.fullmatch(promise.var)
    literal = output_of(promise.node_id, variable["name"]) if variable else None
    if literal is None or variable is None:
        raise BindingFailed(f"Failed to find [{promise.node_id}].[{promise.var}]")
    path: Sequence[PromiseAttribute] = promise.attr_path
    if variable["index"] is not None:
        path = [PromiseAttribute(int_value=int(variable["index"])), *path]
    return attribute(literal, path)


def attribute(literal: Literal, path: Sequence[PromiseAttribute]) -> Literal:
    """Return the part of `literal` at `path`: elements, values of maps, fields of structs and of MessagePack values.

    Raises:
        BindingFailed: There is no such part.
    """
    for position, step in enumerate(path):
        literal = _of_union(literal)
        kind = literal.WhichOneof("value")
        if kind == "map" and step.string_value in literal.map.literals:
            literal = literal.map.literals[step.string_value]
        elif kind == "collection" and 0 <= step.int_value < len(literal.collection.literals):
            literal = literal.collection.literals[step.int_value]
        elif kind == "scalar":
            return _attribute_of_scalar(literal.scalar, path[position:])
        else:
            raise BindingFailed(f"[{_key(step)}] does not exist in a value with a path of {len(path)} attributes")
    return literal


def _of_union(literal: Literal) -> Literal:
    while literal.scalar.HasField("union"):
        literal = literal.scalar.union.value
    return literal


def _key(step: PromiseAttribute) -> str | int:
    name: str | int = step.string_value if step.WhichOneof("value") == "string_value" else step.int_value
    return name


def _attribute_of_scalar(scalar: Scalar, path: Sequence[PromiseAttribute]) -> Literal:
    keys = [_key(step) for step in path]
    if scalar.HasField("binary") and scalar.binary.tag == MESSAGEPACK_TAG:
        try:
            value = select(scalar.binary.value, keys)
        except (LookupError, ValueError) as error:
            raise BindingFailed(f"attribute {keys}: {error}") from error
        return Literal(scalar=Scalar(binary=Binary(value=value, tag=MESSAGEPACK_TAG)))
    if scalar.HasField("generic"):
        value_of_struct = Value(struct_value=scalar.generic)
        for key in keys:
            value_of_struct = _member(value_of_struct, key)
        return _literal(value_of_struct)
    raise BindingFailed(f"attribute {keys} of a value that has no attributes")


def _member(value: Value, key: str | int) -> Value:
    if value.HasField("struct_value") and isinstance(key, str) and key in value.struct_value.fields:
        return value.struct_value.fields[key]
    if value.HasField("list_value") and isinstance(key, int) and 0 <= key < len(value.list_value.values):
        return value.list_value.values[key]
    raise BindingFailed(f"[{key}] does not exist")


def _literal(value: Value) -> Literal:
    """Return a value of a struct as flytepropeller does: all numbers are floats."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        fields = Struct()
        fields.CopyFrom(value.struct_value)
        return Literal(scalar=Scalar(generic=fields))
    if kind == "list_value":
        return Literal(collection=LiteralCollection(literals=map(_literal, value.list_value.values)))
    if kind == "number_value":
        primitive = Primitive(float_value=value.number_value)
    elif kind == "string_value":
        primitive = Primitive(string_value=value.string_value)
    elif kind == "bool_value":
        primitive = Primitive(boolean=value.bool_value)
    else:
        raise BindingFailed("an attribute that is null has no type")
    return Literal(scalar=Scalar(primitive=primitive))
