"""Whether a value may be given where a type is declared: inputs, defaults, fixed inputs, bindings and signals.

A value is compared with the declared type part by part (compiler.md#values-that-fit). The type of the value itself
(compiler.md#literal-types) is not enough: an empty list or map in it may be of any type, and the texts of an enum are
in the declared type alone. Single scalars are compared by their types (compiler.md#castable-types).
"""

from collections.abc import Iterable
from typing import NamedTuple

from flyteidl.core.literals_pb2 import Literal, Scalar, Union
from flyteidl.core.types_pb2 import LiteralType
from google.protobuf.message import Message

from services.contracts.casting import BYTES_PER_STEP, Comparison
from services.contracts.literals import literal_type, scalar_type, type_text

# Types whose values have parts.
_TRAVERSED = frozenset(("collection_type", "map_value_type", "union_type"))
# Bytes of a value that count as one step. The smallest literals have 8 and take about a step each, so at least half of
# the cost is counted.
_VALUE_BYTES_PER_STEP = 16
# A variant becomes a part, and is compared.
_STEPS_PER_VARIANT = 2
# Texts of an enum that are put into a set in a step.
_TEXTS_PER_STEP = 16


class UntypedValue(Exception):
    """The type of a value cannot be inferred from it, or from something inside it."""


class TypeMismatch(NamedTuple):
    """Why a value does not fit: its own type, and a text in it that an enum does not have, if that is the reason."""

    given: LiteralType
    unknown_enum_text: str | None

    @property
    def text(self) -> str:
        """The value's type and reason, for an error message."""
        given = type_text(self.given)
        if self.unknown_enum_text is None:
            return given
        return f"{given} with the value [{self.unknown_enum_text}], which the enum does not have"


def type_mismatch(value: Literal, declared: LiteralType, comparison: Comparison) -> TypeMismatch | None:
    """Return None when `value` may be given where `declared` is expected, else why not.

    Raises:
        UntypedValue: The value does not fit, and has no type that an error message could name.
        TypesTooLarge: The check takes more steps than `comparison` has.
    """
    check = _Check(comparison)
    if check.fits(value, _DeclaredPart(declared, comparison)):
        return None
    given = literal_type(value, comparison.spend)
    if given is None:
        raise UntypedValue
    comparison.spend(given.ByteSize() + declared.ByteSize())  # for their texts
    return TypeMismatch(given, check.unknown_enum_text)


class _DeclaredPart:
    """A part of a declared type, with a cache of results: lists contain the same few types of scalars over and over."""

    def __init__(self, declared: LiteralType, comparison: Comparison) -> None:
        self.declared = declared
        self._comparison = comparison
        self.kind = declared.WhichOneof("type")
        self.scalar_results: dict[bytes, bool] = {}
        self.variants: list[_DeclaredPart] = []
        self.texts: frozenset[str] | None = None  # of an enum
        self.has_enum = False
        if self.kind == "union_type":
            comparison.spend(_STEPS_PER_VARIANT * len(declared.union_type.variants))
            self.variants = [_DeclaredPart(variant, comparison) for variant in declared.union_type.variants]
            self.has_enum = any(variant.has_enum for variant in self.variants)
        elif self.kind == "enum_type":
            comparison.spend(len(declared.enum_type.values) // _TEXTS_PER_STEP)
            self.texts, self.has_enum = frozenset(declared.enum_type.values), True
        self._inner: _DeclaredPart | None = None

    def inner(self) -> "_DeclaredPart":
        """Return the type of elements of a list or values of a map."""
        if self._inner is None:
            is_list = self.kind == "collection_type"
            inner = self.declared.collection_type if is_list else self.declared.map_value_type
            self._inner = _DeclaredPart(inner, self._comparison)
        return self._inner


class _Check:
    """The comparison of one value with a type; `unknown_enum_text` is a text in it that an enum does not have."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self.unknown_enum_text: str | None = None

    def fits(self, value: Literal, part: _DeclaredPart) -> bool:
        kind = value.WhichOneof("value")
        if kind == "scalar":
            return self._scalar(value.scalar, part)
        if kind == "offloaded_metadata":
            given = literal_type(value)
            return given is not None and self._comparison.castable(given, part.declared)
        if part.variants:
            return self._exactly_one_variant(value, part)
        if kind == "collection":
            return part.kind == "collection_type" and self._all(value.collection.literals, part.inner())
        if kind == "map":
            return part.kind == "map_value_type" and self._all(value.map.literals.values(), part.inner())
        return False

    def _all(self, values: Iterable[Literal], part: _DeclaredPart) -> bool:
        return all(self.fits(value, part) for value in values)

    def _exactly_one_variant(self, value: Literal, part: _DeclaredPart) -> bool:
        # More than one fitting variant is as bad as none: which one is meant cannot be decided.
        self._comparison.spend(len(part.variants))
        self._spend_repeats(value, [variant for variant in part.variants if variant.kind in _TRAVERSED])
        return sum(self.fits(value, variant) for variant in part.variants) == 1

    def _spend_repeats(self, value: Literal, variants: list[_DeclaredPart]) -> None:
        """Spend the steps of traversing `value` once for each variant; a single time costs no more than parsing it."""
        if len(variants) > 1:
            self._comparison.spend(len(variants) * (value.ByteSize() // _VALUE_BYTES_PER_STEP))

    def _scalar(self, scalar: Scalar, part: _DeclaredPart) -> bool:
        key = self._key(scalar, has_enum=part.has_enum)
        if key is None:
            return False
        if key not in part.scalar_results:
            part.scalar_results[key] = self._scalar_fits(scalar, part)
        return part.scalar_results[key]

    def _scalar_fits(self, scalar: Scalar, part: _DeclaredPart) -> bool:
        if scalar.HasField("union"):
            return self._union_literal(scalar.union, part)
        if part.variants and part.has_enum and scalar.primitive.HasField("string_value"):
            return self._exactly_one_variant(Literal(scalar=scalar), part)
        if part.texts is not None and scalar.primitive.HasField("string_value"):
            text = scalar.primitive.string_value
            if text in part.texts:
                return True
            self.unknown_enum_text = text
            return False
        given = scalar_type(scalar)
        return given is not None and self._comparison.castable(given, part.declared)

    def _union_literal(self, union: Union, part: _DeclaredPart) -> bool:
        """Return whether a value is of the variant that it names, and that variant may be given here.

        A declared variant equal to the named one takes precedence over others that it could be cast to: a text that is
        named a value of an enum must be one of the enum's texts, even if another variant accepts any text.
        """
        # A union in a union may be of several variants here.
        candidates = part.variants if part.variants and not union.type.HasField("union_type") else [part]
        fitting = [candidate for candidate in candidates if self._comparison.castable(union.type, candidate.declared)]
        equal = next((candidate for candidate in fitting if candidate.declared == union.type), None)
        if equal is not None:
            return self.fits(union.value, equal)
        self._spend_repeats(union.value, fitting)
        return any(self.fits(union.value, candidate) for candidate in fitting)

    def _key(self, scalar: Scalar, *, has_enum: bool) -> bytes | None:
        """Return what decides whether `scalar` fits a part: its type, or all of it where there are enums."""
        if scalar.HasField("union"):
            union = scalar.union
            if not (union.type.HasField("simple") and union.value.HasField("scalar")):
                return self._serialized(scalar)
            inner = self._key(union.value.scalar, has_enum=has_enum)
            return None if inner is None else b"union" + self._serialized(union.type) + inner
        if has_enum and scalar.primitive.HasField("string_value"):
            return self._serialized(scalar)
        given = scalar_type(scalar)
        return None if given is None else self._serialized(given)

    def _serialized(self, message: Message) -> bytes:
        # A union in a union is serialized again at each level. Small parts are as cheap as the traversal itself.
        serialized: bytes = message.SerializeToString(deterministic=True)
        self._comparison.spend(len(serialized) // BYTES_PER_STEP)
        return serialized
