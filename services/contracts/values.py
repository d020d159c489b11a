"""Whether a value may be given where a type is declared: inputs, defaults, fixed inputs, bindings and signals.

Values are held against the declared type part by part. The type that a value tells of itself (compiler.md 7) is too
little for that: an empty list or map in it might be of any type, and which texts an enum has shows in the declared type
alone. Single scalars are compared by their types (compiler.md 6).
"""

from collections.abc import Iterable
from typing import NamedTuple

from flyteidl.core.literals_pb2 import Literal, Scalar, Union
from flyteidl.core.types_pb2 import LiteralType

from services.contracts.casting import Comparison
from services.contracts.literals import literal_type, scalar_type, type_text

# Types whose values have parts.
_LOOKED_THROUGH = frozenset(("collection_type", "map_value_type", "union_type"))
# The smallest literals have half as many bytes; a look at one takes about a step.
_BYTES_PER_STEP = 16


class Untyped(Exception):
    """A value, or something inside it, does not tell of which type it is."""


class TypeMismatch(NamedTuple):
    """What a value is that does not fit: its own type, and a text in it that an enum does not have, if that is why."""

    given: LiteralType
    foreign_text: str | None

    @property
    def text(self) -> str:
        """What the value is, for a message."""
        given = type_text(self.given)
        if self.foreign_text is None:
            return given
        return f"{given} with the value [{self.foreign_text}], which the enum does not have"


def type_mismatch(value: Literal, declared: LiteralType, comparison: Comparison) -> TypeMismatch | None:
    """Return None when `value` may be given where `declared` is expected, else what it is instead.

    Raises Untyped, and TypesTooLarge when finding out takes more steps than `comparison` has.
    """
    check = _Check(comparison)
    if check.fits(value, _Place(declared)):
        return None
    given = literal_type(value, comparison.spend)
    if given is None:
        raise Untyped
    comparison.spend(given.ByteSize() + declared.ByteSize())  # for their texts
    return TypeMismatch(given, check.foreign_text)


class _Place:
    """A part of a declared type, and what is known of the scalars that were held against it.

    Lists hold the same few types of scalars over and over.
    """

    def __init__(self, declared: LiteralType) -> None:
        self.declared = declared
        self.kind = declared.WhichOneof("type")
        self.known: dict[bytes, bool] = {}
        self.variants: list[_Place] = []
        self.texts: frozenset[str] | None = None
        self.by_text = False
        if self.kind == "union_type":
            self.variants = [_Place(variant) for variant in declared.union_type.variants]
            self.by_text = any(variant.by_text for variant in self.variants)
        elif self.kind == "enum_type":
            self.texts, self.by_text = frozenset(declared.enum_type.values), True
        self._inner: _Place | None = None

    def inner(self) -> "_Place":
        """The place of elements of a list or values of a map."""
        if self._inner is None:
            inside = self.kind == "collection_type"
            self._inner = _Place(self.declared.collection_type if inside else self.declared.map_value_type)
        return self._inner


class _Check:
    """Holds one value against a type; `foreign_text` is a text that an enum does not have."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self.foreign_text: str | None = None

    def fits(self, value: Literal, place: _Place) -> bool:
        kind = value.WhichOneof("value")
        if kind == "scalar":
            return self._scalar(value.scalar, place)
        if kind == "offloaded_metadata":
            told = literal_type(value)
            return told is not None and self._comparison.castable(told, place.declared)
        if place.variants:
            return self._one_variant(value, place)
        if kind == "collection":
            return place.kind == "collection_type" and self._all(value.collection.literals, place.inner())
        if kind == "map":
            return place.kind == "map_value_type" and self._all(value.map.literals.values(), place.inner())
        return False

    def _all(self, values: Iterable[Literal], place: _Place) -> bool:
        return all(self.fits(value, place) for value in values)

    def _one_variant(self, value: Literal, place: _Place) -> bool:
        # More than one fitting variant is as bad as none: nobody could tell which is meant.
        self._comparison.spend(len(place.variants))
        self._look_often(value, [variant for variant in place.variants if variant.kind in _LOOKED_THROUGH])
        return sum(self.fits(value, variant) for variant in place.variants) == 1

    def _look_often(self, value: Literal, places: list[_Place]) -> None:
        """Pay for looking through one value several times; once is what parsing it took."""
        if len(places) > 1:
            self._comparison.spend(len(places) * (value.ByteSize() // _BYTES_PER_STEP))

    def _scalar(self, scalar: Scalar, place: _Place) -> bool:
        key = _key(scalar, by_text=place.by_text)
        if key is None:
            return False
        if key not in place.known:
            place.known[key] = self._scalar_fits(scalar, place)
        return place.known[key]

    def _scalar_fits(self, scalar: Scalar, place: _Place) -> bool:
        if scalar.HasField("union"):
            return self._told_variant(scalar.union, place)
        if place.variants and place.by_text and scalar.primitive.HasField("string_value"):
            return self._one_variant(Literal(scalar=scalar), place)
        if place.texts is not None and scalar.primitive.HasField("string_value"):
            text = scalar.primitive.string_value
            if text in place.texts:
                return True
            self.foreign_text = text
            return False
        given = scalar_type(scalar)
        return given is not None and self._comparison.castable(given, place.declared)

    def _told_variant(self, union: Union, place: _Place) -> bool:
        """Return whether a value is of the variant that it tells, and that variant may be given here.

        What is declared just as it is told goes before what it could be cast to as well: a text told to be of an enum
        is none of any text.
        """
        # A union in a union may be of several variants here.
        wanted = place.variants if place.variants and not union.type.HasField("union_type") else [place]
        fitting = [one for one in wanted if self._comparison.castable(union.type, one.declared)]
        told = next((one for one in fitting if one.declared == union.type), None)
        if told is not None:
            return self.fits(union.value, told)
        self._look_often(union.value, fitting)
        return any(self.fits(union.value, one) for one in fitting)


def _key(scalar: Scalar, *, by_text: bool) -> bytes | None:
    """Return what decides whether `scalar` fits a place: its type, or the whole of it where there are enums."""
    if scalar.HasField("union"):
        union = scalar.union
        if not (union.type.HasField("simple") and union.value.HasField("scalar")):
            return scalar.SerializeToString(deterministic=True)
        inner = _key(union.value.scalar, by_text=by_text)
        return None if inner is None else b"union" + union.type.SerializeToString(deterministic=True) + inner
    if by_text and scalar.primitive.HasField("string_value"):
        return scalar.SerializeToString(deterministic=True)
    told = scalar_type(scalar)
    return None if told is None else told.SerializeToString(deterministic=True)
