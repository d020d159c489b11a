"""Bindings of a node: checked against its inputs, and promises against the outputs they name (compiler.md#bindings)."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flyteidl.core.literals_pb2 import BindingData, Literal, Scalar
from flyteidl.core.types_pb2 import EnumType, LiteralType, OutputReference, SimpleType
from flyteidl.core.workflow_pb2 import Node

from services.contracts.casting import Comparison
from services.contracts.literals import scalar_type
from services.contracts.values import type_mismatch
from services.registry.compiler.errors import MAX_TEXT_BYTES, Code, DoesNotFit, Errors
from services.registry.compiler.graph import START_NODE
from services.registry.compiler.interfaces import Types

_VARIABLE = re.compile(r"(?P<index>\[\d+\]\.)?(?P<name>\w+)", re.ASCII)

# Keys of a map that are sorted in a step.
_SORTED_PER_STEP = 8

# The expected type of a binding whose type is to be inferred.
_UNKNOWN = LiteralType(simple=SimpleType.NONE)


class Source(NamedTuple):
    """A node that promises may name: its title, and its outputs, which are None after an error."""

    title: str | None
    outputs: Types | None


class Bound(NamedTuple):
    """The types of the bound variables, and the ids of the nodes that the values come from."""

    types: dict[str, LiteralType]
    upstream: set[str]


class Binder:
    """A check of the bindings of a workflow's nodes; it sets the start node in promises without a node."""

    def __init__(self, sources: Mapping[str, Source], comparison: Comparison) -> None:
        self._sources = sources
        self._comparison = comparison

    def check(self, node: Node, inputs: Types, errors: Errors) -> Bound:
        """Check that `node` binds each of `inputs` once and with a fitting type; optional ones may be left out."""
        bound = self._bind(node, inputs, errors)
        bound_names = {binding.var for binding in node.inputs if binding.HasField("binding")}
        self._comparison.spend(len(inputs))
        for name in sorted(inputs.keys() - bound_names):
            self._comparison.spend(len(inputs[name].union_type.variants))
            if not _is_optional(inputs[name]):
                errors.not_bound(node.id, name)
        return bound

    def infer(self, node: Node, errors: Errors) -> Types:
        """Return the types of all variables that `node` binds, for a node whose outputs are its inputs."""
        return self._bind(node, None, errors).types

    def _bind(self, node: Node, inputs: Types | None, errors: Errors) -> Bound:
        bound = Bound({}, set())
        bound_names: set[str] = set()
        for binding in node.inputs:
            self._comparison.spend()
            if inputs is not None and binding.var not in inputs:
                errors.no_variable(node.id, node.id, binding.var)
            elif not binding.HasField("binding"):
                errors.value_required(node.id, "Binding")
            elif binding.var in bound_names:
                errors.add(
                    Code.PARAMETER_BOUND_MORE_THAN_ONCE, node.id, f"Input [{binding.var}] is bound more than once."
                )
            else:
                bound_names.add(binding.var)
                check = _BindingCheck(self._sources, self._comparison, node, binding.var, typed=inputs is not None)
                expected = _UNKNOWN if inputs is None else inputs[binding.var]
                own_errors = errors.child()
                resolved = check.resolve(binding.binding, expected, own_errors)
                if resolved is not None and not own_errors:
                    bound.types[binding.var] = resolved
                    bound.upstream.update(check.upstream)
        return bound


class _BindingCheck:
    """The check of one variable's binding; `upstream` are the nodes that its promises name.

    With `typed` false the type is inferred from the binding alone.
    """

    def __init__(
        self, sources: Mapping[str, Source], comparison: Comparison, node: Node, variable: str, *, typed: bool
    ) -> None:
        self._sources = sources
        self._comparison = comparison
        self._node = node
        self._variable = variable
        self._typed = typed
        self.upstream: list[str] = []

    @property
    def _input(self) -> str:
        return f"Input [{self._variable}] on node [{self._node.id}]"

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
            inner = expected.collection_type
            for item in data.collection.bindings:
                self.resolve(item, inner, errors)
            return expected
        if kind == "map" and expected.HasField("map_value_type"):
            bindings = data.map.bindings
            # They are sorted once for every variant of a union.
            self._comparison.spend(len(bindings) // _SORTED_PER_STEP)
            inner = expected.map_value_type
            for key in sorted(bindings):
                self.resolve(bindings[key], inner, errors)
            return expected
        errors.add_lazily(
            Code.MISMATCHING_BINDINGS,
            self._node.id,
            lambda: (
                f"{self._input} expects bindings of type [{errors.type_text(expected)}].  "
                f"Received [{errors.text(data)}]"
            ),
        )
        return None

    def _union(self, data: BindingData, expected: LiteralType, errors: Errors) -> LiteralType | None:
        """Try each variant without collecting errors: exactly one must fit."""
        fitting: list[tuple[LiteralType, list[str]]] = []
        outer = self.upstream
        for variant in expected.union_type.variants:
            self.upstream = []
            try:
                self.resolve(data, variant, Errors(fail_fast=True))
            except DoesNotFit:
                continue
            fitting.append((variant, self.upstream))
        self.upstream = outer
        if len(fitting) == 1:
            self.upstream.extend(fitting[0][1])
            return fitting[0][0]
        variants = [variant for variant, _ in fitting]
        code = Code.AMBIGUOUS_BINDING_UNION_VALUE if fitting else Code.INCOMPATIBLE_BINDING_UNION_VALUE
        errors.add_lazily(code, self._node.id, lambda: self._not_one_variant(data, expected, variants, errors))
        return None

    def _not_one_variant(
        self, data: BindingData, expected: LiteralType, fitting: Sequence[LiteralType], errors: Errors
    ) -> str:
        union = errors.type_text(expected)
        start = f"{self._input} expects bindings of union type [{union}].  Received [{errors.text(data)}]"
        if not fitting:
            return f"{start} which does not match any of the variants."
        first, second = errors.type_text(fitting[0]), errors.type_text(fitting[1])
        return f"{start} which is ambiguous as both variants [{first}] and [{second}] match."

    def _scalar(self, scalar: Scalar, expected: LiteralType, errors: Errors) -> LiteralType | None:
        # A literal of a union is checked once for every variant that it may be of.
        self._comparison.spend_size(scalar)
        self._comparison.spend(len(expected.enum_type.values))
        given = scalar_type(scalar)
        if given is None:
            kind = scalar.WhichOneof("value") or "nothing"
            errors.add(Code.UNRECOGNIZED_VALUE, self._node.id, f"Unrecognized value [{kind}].")
        elif self._typed and not self._comparison.castable(given, expected):
            errors.mismatch(self._node.id, self._variable, given, expected)
        elif self._typed and (scalar.HasField("union") or expected.HasField("union_type")):
            self._inner_enums(scalar, expected, errors)
            return given
        value = scalar.primitive.string_value
        if expected.HasField("enum_type") and value not in expected.enum_type.values:
            errors.add_lazily(
                Code.ILLEGAL_ENUM_VALUE,
                self._node.id,
                lambda: (
                    f"{self._input} is an Enum and expects value to be one of [{_values_text(expected.enum_type)}].  "
                    f"Received [{value}]"
                ),
            )
        return given

    def _inner_enums(self, scalar: Scalar, expected: LiteralType, errors: Errors) -> None:
        mismatch = type_mismatch(Literal(scalar=scalar), expected, self._comparison)
        if mismatch is not None and mismatch.unknown_enum_text is not None:
            errors.add_lazily(
                Code.ILLEGAL_ENUM_VALUE,
                self._node.id,
                lambda: (
                    f"{self._input} expects a value of type [{errors.type_text(expected)}].  "
                    f"Received [{mismatch.unknown_enum_text}], which its enum does not have"
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
        """Return the type at the attribute path of `promise`; whether an index exists is known only at run time."""
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
        errors.add_lazily(
            Code.FIELD_NOT_FOUND,
            self._node.id,
            lambda: f"Variable [{variable}] (type [{errors.type_text(owner)}]) doesn't have field [{field}].",
        )

    def _mismatch(
        self, promise: OutputReference, source: Source, given: LiteralType, expected: LiteralType, errors: Errors
    ) -> None:
        output = promise.var if source.title is None else f"{source.title}.{promise.var}"
        node = self._node
        input_ = f"{node.metadata.name}.{self._variable}" if node.HasField("metadata") else self._variable
        errors.add_lazily(
            Code.MISMATCHING_TYPES,
            node.id,
            lambda: (
                f"The output variable '{output}' has type [{errors.type_text(given)}], but it's assigned to the input "
                f"variable '{input_}' which has type type [{errors.type_text(expected)}]."
            ),
        )


def _values_text(enum: EnumType) -> str:
    size = enum.ByteSize()
    return f"[{' '.join(enum.values)}]" if size <= MAX_TEXT_BYTES else f"{size} bytes"


def _is_optional(literal_type: LiteralType) -> bool:
    return any(
        variant.HasField("simple") and variant.simple == SimpleType.NONE for variant in literal_type.union_type.variants
    )
