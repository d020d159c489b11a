"""Whether a value of one type may be given where another is declared (compiler.md#castable-types).

Used for bindings in workflows, for inputs of launch plans and executions, and for signals.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from flyteidl.core.types_pb2 import LiteralType, SchemaType, SimpleType, StructuredDatasetType
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from services.contracts.casting_structs import struct_castable

# Schemas are only ever written as parquet files.
_PARQUET = "parquet"

# Far beyond any type that people write, and well under a second of comparing. Types are sent by clients: the square of
# what fits into one request would keep a service busy for hours.
MAX_STEPS = 200_000
# Comparing or copying so many bytes as a whole takes about as long as a step.
BYTES_PER_STEP = 256

# Python looks enum members up by name on every access, which costs more than the comparison itself.
_NONE, _STRING, _STRUCT = SimpleType.NONE, SimpleType.STRING, SimpleType.STRUCT

# Columns of a schema have types of their own; these are the same in a structured dataset.
_COLUMN_TYPES: Mapping[int, SimpleType] = {
    SchemaType.SchemaColumn.INTEGER: SimpleType.INTEGER,
    SchemaType.SchemaColumn.FLOAT: SimpleType.FLOAT,
    SchemaType.SchemaColumn.STRING: SimpleType.STRING,
    SchemaType.SchemaColumn.BOOLEAN: SimpleType.BOOLEAN,
    SchemaType.SchemaColumn.DATETIME: SimpleType.DATETIME,
    SchemaType.SchemaColumn.DURATION: SimpleType.DURATION,
}


Given = TypeVar("Given")
Wanted = TypeVar("Wanted")


class TypesTooLarge(Exception):
    """A comparison takes more steps than are allowed."""


def castable(upstream: LiteralType, downstream: LiteralType) -> bool:
    """Return whether a value of type `upstream` may be given where `downstream` is declared.

    Return False for types so large that comparing them takes more than MAX_STEPS steps.
    """
    try:
        return Comparison(MAX_STEPS).castable(upstream, downstream)
    except TypesTooLarge:
        return False


class Comparison:
    """A comparison of types within an allowance of `steps`; raises TypesTooLarge when it is used up."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        # Nested unions are compared again and again; without a cache the comparisons are exponential in the depth.
        self._unions: dict[tuple[bytes, bytes], bool] = {}
        # Many nodes pass on the same few dataclasses.
        self._structs: dict[tuple[bytes, bytes], bool] = {}

    def castable(self, upstream: LiteralType, downstream: LiteralType) -> bool:
        """Return what the function of this name returns; raise TypesTooLarge."""
        variants = upstream.union_type.variants
        if len(variants) == 1 and self._accepts(downstream, variants[0]):
            return True
        return self._accepts(downstream, upstream)

    def spend(self, steps: int = 1) -> None:
        """Take `steps` off the allowance; raise TypesTooLarge when it is used up."""
        self._steps -= steps
        if self._steps < 0:
            raise TypesTooLarge

    def _accepts(self, downstream: LiteralType, upstream: LiteralType) -> bool:
        self.spend()
        match downstream.WhichOneof("type"):
            case "collection_type":
                return self._collection(downstream, upstream)
            case "map_value_type":
                return self._map(downstream, upstream)
            case "blob":
                return _blob_fits(downstream, upstream)
            case "union_type":
                return self._union(downstream, upstream)
            case "schema":
                return self._schema(downstream, upstream)
            case "structured_dataset_type":
                return self._structured_dataset(downstream, upstream)
        return self._simple(downstream, upstream)

    def _simple(self, downstream: LiteralType, upstream: LiteralType) -> bool:
        given, wanted = upstream.WhichOneof("type"), downstream.WhichOneof("type")
        if given != wanted:
            # An enum is a string that allows only some values.
            return (given == "enum_type" and _is_simple(downstream, _STRING)) or (
                wanted == "enum_type" and _is_simple(upstream, _STRING)
            )
        if _is_simple(downstream, _NONE):
            return upstream.simple == _NONE
        if upstream.structure.tag and upstream.structure.tag != downstream.structure.tag:
            return False
        if _is_simple(upstream, _STRUCT) and _is_simple(downstream, _STRUCT):
            if not (upstream.HasField("metadata") and downstream.HasField("metadata")):
                return True
            return self._struct(upstream.metadata, downstream.metadata)
        self.spend(len(upstream.enum_type.values))
        return upstream.simple == downstream.simple and upstream.enum_type == downstream.enum_type

    def _struct(self, upstream: Struct, downstream: Struct) -> bool:
        key = self._pair(upstream, downstream)
        if key not in self._structs:
            self._structs[key] = struct_castable(upstream, downstream, self.spend)
        return self._structs[key]

    def _pair(self, one: Message, other: Message) -> tuple[bytes, bytes]:
        key = (one.SerializeToString(deterministic=True), other.SerializeToString(deterministic=True))
        self.spend((len(key[0]) + len(key[1])) // BYTES_PER_STEP)
        return key

    def _collection(self, downstream: LiteralType, upstream: LiteralType) -> bool:
        if not upstream.HasField("collection_type"):
            return False
        inner = upstream.collection_type
        return _is_simple(inner, _NONE) or self._accepts(downstream.collection_type, inner)

    def _map(self, downstream: LiteralType, upstream: LiteralType) -> bool:
        if not upstream.HasField("map_value_type"):
            return False
        inner = upstream.map_value_type
        return _is_simple(inner, _NONE) or self._accepts(downstream.map_value_type, inner)

    def _union(self, downstream: LiteralType, upstream: LiteralType) -> bool:
        if not upstream.HasField("union_type"):
            variants = downstream.union_type.variants
            if _is_simple(upstream, _NONE) and any(_is_simple(variant, _NONE) for variant in variants):
                return True  # though a structured dataset among the variants accepts None, too
            # More than one fitting variant is as bad as none: which one is meant cannot be decided.
            fits = (variant for variant in variants if self.castable(upstream, variant))
            return next(fits, None) is not None and next(fits, None) is None
        key = self._pair(upstream, downstream)
        if key not in self._unions:
            self._unions[key] = all(
                any(self.castable(given, wanted) for wanted in downstream.union_type.variants)
                for given in upstream.union_type.variants
            )
        return self._unions[key]

    def _schema(self, downstream: LiteralType, upstream: LiteralType) -> bool:
        wanted = downstream.schema
        if upstream.HasField("schema"):
            return self._columns(_schema_columns(upstream.schema), _schema_columns(wanted), int.__eq__)
        dataset = upstream.structured_dataset_type
        if not upstream.HasField("structured_dataset_type") or not _same_format(dataset.format, _PARQUET):
            return False
        return self._columns(_dataset_columns(dataset), _schema_columns(wanted), lambda u, d: _same_column(d, u))

    def _structured_dataset(self, downstream: LiteralType, upstream: LiteralType) -> bool:
        # A structured dataset may always be None.
        if _is_simple(upstream, _NONE):
            return True
        wanted = downstream.structured_dataset_type
        if upstream.HasField("schema"):
            if not _same_format(wanted.format, _PARQUET):
                return False
            return self._columns(_schema_columns(upstream.schema), _dataset_columns(wanted), _same_column)
        given = upstream.structured_dataset_type
        if not upstream.HasField("structured_dataset_type") or not _same_format(given.format, wanted.format):
            return False
        return self._columns(_dataset_columns(given), _dataset_columns(wanted), lambda u, d: self._accepts(d, u))

    def _columns(
        self,
        given: Sequence[tuple[str, Given]],
        wanted: Sequence[tuple[str, Wanted]],
        same: Callable[[Given, Wanted], bool],
    ) -> bool:
        """Return whether every column of `wanted` is among `given`; a side without columns allows any."""
        present = dict(given)
        if not present:
            return True
        for name, wanted_type in wanted:
            self.spend()
            if name not in present or not same(present[name], wanted_type):
                return False
        return True


def _is_simple(literal_type: LiteralType, simple: SimpleType) -> bool:
    return literal_type.HasField("simple") and literal_type.simple == simple


def _blob_fits(downstream: LiteralType, upstream: LiteralType) -> bool:
    # Files and folders alike: clients rely on either being accepted for the other.
    formats = (upstream.blob.format, downstream.blob.format)
    return upstream.HasField("blob") and (not all(formats) or formats[0] == formats[1])


def _same_format(one: str, other: str) -> bool:
    return not one or not other or one.casefold() == other.casefold()


def _same_column(schema_type: int, literal_type: LiteralType) -> bool:
    return schema_type in _COLUMN_TYPES and _is_simple(literal_type, _COLUMN_TYPES[schema_type])


def _schema_columns(schema: SchemaType) -> list[tuple[str, int]]:
    return [(column.name, column.type) for column in schema.columns]


def _dataset_columns(dataset: StructuredDatasetType) -> list[tuple[str, LiteralType]]:
    return [(column.name, column.literal_type) for column in dataset.columns]
