"""What flows into a node: bindings against the inputs they are for, promises against the outputs they name.

compiler.md, sections 8.1 to 8.3.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flyteidl.core.literals_pb2 import BindingData, Literal, Scalar
from flyteidl.core.types_pb2 import EnumType, LiteralType, OutputReference, SimpleType
from flyteidl.core.workflow_pb2 import Node

from services.contracts.casting import BYTES_PER_STEP, Comparison
from services.contracts.literals import scalar_type
from services.contracts.values import type_mismatch
from services.registry.compiler.errors import (
    MAX_TEXT_BYTES,
    Code,
    DoesNotFit,
    Errors,
    text,
    type_text,
)
from services.registry.compiler.graph import START_NODE
from services.registry.compiler.interfaces import Types

_VARIABLE = re.compile(r"(?P<index>\[\d+\]\.)?(?P<name>\w+)", re.ASCII)

# What a binding is held against where its type is yet to be found out.
_UNKNOWN = LiteralType(simple=SimpleType.NONE)


class Source(NamedTuple):
    """A node that promises may name: its title and its outputs, which are None when they could not be found out."""

    title: str | None
    outputs: Types | None


class Bound(NamedTuple):
    """The types of what is bound, and the nodes that it comes from."""

    types: dict[str, LiteralType]
    upstream: set[str]


class Binder:
    """Checks the bindings of the nodes of one workflow, and fills in the start node where a promise names none."""

    def __init__(self, sources: Mapping[str, Source], comparison: Comparison) -> None:
        self._sources = sources
        self._comparison = comparison

    def check(self, node: Node, inputs: Types, errors: Errors) -> Bound:
        """Check that `node` binds each of `inputs` once and rightly; optional ones may be left out."""
        bound = self._bind(node, inputs, errors)
        given = {binding.var for binding in node.inputs if binding.HasField("binding")}
        self._comparison.spend(len(inputs))
        for name in sorted(inputs.keys() - given):
            self._comparison.spend(len(inputs[name].union_type.variants))
            if not _is_optional(inputs[name]):
                errors.not_bound(node.id, name)
        return bound

    def infer(self, node: Node, errors: Errors) -> Types:
        """Return the types of whatever `node` binds, for a node that passes on what it is given."""
        return self._bind(node, None, errors).types

    def _bind(self, node: Node, inputs: Types | None, errors: Errors) -> Bound:
        bound = Bound({}, set())
        given: set[str] = set()
        for binding in node.inputs:
            self._comparison.spend()
            if inputs is not None and binding.var not in inputs:
                errors.no_variable(node.id, node.id, binding.var)
            elif not binding.HasField("binding"):
                errors.value_required(node.id, "Binding")
            elif binding.var in given:
                errors.add(
                    Code.PARAMETER_BOUND_MORE_THAN_ONCE, node.id, f"Input [{binding.var}] is bound more than once."
                )
            else:
                given.add(binding.var)
                attempt = _Attempt(self._sources, self._comparison, node, binding.var, typed=inputs is not None)
                expected = _UNKNOWN if inputs is None else inputs[binding.var]
                scope = errors.scope()
                resolved = attempt.resolve(binding.binding, expected, scope)
                if resolved is not None and not scope:
                    bound.types[binding.var] = resolved
                    bound.upstream.update(attempt.upstream)
        return bound


class _Attempt:
    """One binding of one variable; `upstream` are the nodes that its promises name."""

    def __init__(
        self, sources: Mapping[str, Source], comparison: Comparison, node: Node, variable: str, *, typed: bool
    ) -> None:
        self._sources = sources
        self._comparison = comparison
        self._node = node
        self._variable = variable
        self._typed = typed
        self._input = f"Input [{variable}] on node [{node.id}]"
        self.upstream: list[str] = []

    def resolve(self, data: BindingData, expected: LiteralType, errors: Errors) -> LiteralType | None:
        """Return the type of `data`, None after an error."""
        self._comparison.spend()
        kind = data.WhichOneof("value")
        if kind == "scalar":
            return self._scalar(data.scalar, expected, errors)
        if kind == "promise":
            return self._promise(data.promise, expected, errors)
        if expected.HasField("union_type"):
            return self._union(data, expected, errors)
        if kind == "collection" and expected.HasField("collection_type"):
            for item in data.collection.bindings:
                self.resolve(item, expected.collection_type, errors)
            return expected
        if kind == "map" and expected.HasField("map_value_type"):
            for _, value in sorted(data.map.bindings.items()):
                self.resolve(value, expected.map_value_type, errors)
            return expected
        errors.tell(
            Code.MISMATCHING_BINDINGS,
            self._node.id,
            lambda: f"{self._input} expects bindings of type [{type_text(expected)}].  Received [{text(data)}]",
        )
        return None

    def _union(self, data: BindingData, expected: LiteralType, errors: Errors) -> LiteralType | None:
        """Try each variant on the quiet: exactly one must fit."""
        fitting: list[tuple[LiteralType, list[str]]] = []
        outer = self.upstream
        for variant in expected.union_type.variants:
            self.upstream = []
            try:
                self.resolve(data, variant, errors.trial())
            except DoesNotFit:
                continue
            fitting.append((variant, self.upstream))
        self.upstream = outer
        if len(fitting) == 1:
            self.upstream.extend(fitting[0][1])
            return fitting[0][0]
        variants = [variant for variant, _ in fitting]
        code = Code.AMBIGUOUS_BINDING_UNION_VALUE if fitting else Code.INCOMPATIBLE_BINDING_UNION_VALUE
        errors.tell(code, self._node.id, lambda: self._not_one(data, expected, variants))
        return None

    def _not_one(self, data: BindingData, expected: LiteralType, fitting: Sequence[LiteralType]) -> str:
        wanted = f"{self._input} expects bindings of union type [{type_text(expected)}].  Received [{text(data)}]"
        if not fitting:
            return f"{wanted} which does not match any of the variants."
        first, second = type_text(fitting[0]), type_text(fitting[1])
        return f"{wanted} which is ambiguous as both variants [{first}] and [{second}] match."

    def _scalar(self, scalar: Scalar, expected: LiteralType, errors: Errors) -> LiteralType | None:
        # A union's literal is looked at once for every variant that it may be for.
        self._comparison.spend(scalar.ByteSize() // BYTES_PER_STEP + len(expected.enum_type.values))
        found = scalar_type(scalar)
        if found is None:
            kind = scalar.WhichOneof("value") or "nothing"
            errors.add(Code.UNRECOGNIZED_VALUE, self._node.id, f"Unrecognized value [{kind}].")
        elif self._typed and not self._comparison.castable(found, expected):
            errors.mismatch(self._node.id, self._variable, found, expected)
        elif self._typed and (scalar.HasField("union") or expected.HasField("union_type")):
            self._inner_enums(scalar, expected, errors)
            return found
        value = scalar.primitive.string_value
        if expected.HasField("enum_type") and value not in expected.enum_type.values:
            errors.tell(
                Code.ILLEGAL_ENUM_VALUE,
                self._node.id,
                lambda: (
                    f"{self._input} is an Enum and expects value to be one of [{_values_text(expected.enum_type)}].  "
                    f"Received [{value}]"
                ),
            )
        return found

    def _inner_enums(self, scalar: Scalar, expected: LiteralType, errors: Errors) -> None:
        instead = type_mismatch(Literal(scalar=scalar), expected, self._comparison)
        if instead is not None and instead.foreign_text is not None:
            errors.tell(
                Code.ILLEGAL_ENUM_VALUE,
                self._node.id,
                lambda: (
                    f"{self._input} expects a value of type [{type_text(expected)}].  "
                    f"Received [{instead.foreign_text}], which its enum does not have"
                ),
            )

    def _promise(self, promise: OutputReference, expected: LiteralType, errors: Errors) -> LiteralType | None:
        promise.node_id = promise.node_id or START_NODE
        source = self._sources.get(promise.node_id)
        if source is None:
            errors.no_node(promise.node_id, promise.node_id)
            errors.not_bound(self._node.id, self._variable)
            return None
        name = _VARIABLE.fullmatch(promise.var)
        if name is None:
            errors.add(Code.SYNTAX_ERROR, self._node.id, f"Failed to parse element [{promise.var}].")
            return None
        output = (source.outputs or {}).get(name["name"])
        if output is None:
            if source.outputs is not None:
                errors.no_variable(promise.node_id, promise.node_id, name["name"])
            errors.not_bound(self._node.id, self._variable)
            return None
        self.upstream.append(promise.node_id)
        if name["index"] and not output.HasField("collection_type"):
            self._mismatch(promise, source, output, expected, errors)
            return None
        selected = self._selected(promise, output.collection_type if name["index"] else output, errors)
        if selected is not None and self._typed and not self._comparison.castable(selected, expected):
            self._mismatch(promise, source, selected, expected, errors)
            return None
        return selected

    def _selected(self, promise: OutputReference, output: LiteralType, errors: Errors) -> LiteralType | None:
        """Return the type of what the attribute path of `promise` leads to; whether an index exists shows at run."""
        for attribute in promise.attr_path:
            self._comparison.spend()
            if output.HasField("collection_type"):
                output = output.collection_type
            elif output.HasField("map_value_type"):
                output = output.map_value_type
            elif fields := output.structure.dataclass_type:
                if attribute.string_value not in fields:
                    self._no_field(promise.var, output, attribute.string_value, errors)
                    return None
                output = fields[attribute.string_value]
        return output

    def _no_field(self, variable: str, owner: LiteralType, field: str, errors: Errors) -> None:
        errors.tell(
            Code.FIELD_NOT_FOUND,
            self._node.id,
            lambda: f"Variable [{variable}] (type [{type_text(owner)}]) doesn't have field [{field}].",
        )

    def _mismatch(
        self, promise: OutputReference, source: Source, given: LiteralType, wanted: LiteralType, errors: Errors
    ) -> None:
        giver = promise.var if source.title is None else f"{source.title}.{promise.var}"
        node = self._node
        taker = f"{node.metadata.name}.{self._variable}" if node.HasField("metadata") else self._variable
        errors.tell(
            Code.MISMATCHING_TYPES,
            node.id,
            lambda: (
                f"The output variable '{giver}' has type [{type_text(given)}], but it's assigned to the input variable "
                f"'{taker}' which has type type [{type_text(wanted)}]."
            ),
        )


def _values_text(enum: EnumType) -> str:
    size = enum.ByteSize()
    return f"[{' '.join(enum.values)}]" if size <= MAX_TEXT_BYTES else f"{size} bytes"


def _is_optional(literal_type: LiteralType) -> bool:
    return any(
        variant.HasField("simple") and variant.simple == SimpleType.NONE for variant in literal_type.union_type.variants
    )
