"""Whether a value of one type may be given where another is declared (compiler.md#castable-types).

Used for bindings in workflows, for inputs of launch plans and executions, and for signals.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from cachetools import LRUCache
from flyteidl.core.types_pb2 import LiteralType, SchemaType, SimpleType, StructuredDatasetType
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from services.contracts.casting_structs import struct_castable

# Schemas are only ever written as parquet files.
_PARQUET = "parquet"

# Far beyond any type that people write, and well under a second of comparing. Types are sent by clients: the square of
# what fits into one request would keep a service busy for hours.
MAX_STEPS = 200_000
# Comparing, copying or serializing so many bytes takes at most as long as a step, also when they are sorted entries of
# maps.
BYTES_PER_STEP = 64
# Serialized types that a comparison keeps: those of a large workflow.
_KEPT_BYTES = 8 * 1024 * 1024
# A smaller type is serialized again in less time than one is kept.
_SMALLEST_KEPT_BYTES = 512

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
Declared = TypeVar("Declared")


class TypesTooLarge(Exception):
    """A comparison takes more steps than are allowed."""


def castable(given: LiteralType, declared: LiteralType) -> bool:
    """Return whether a value of type `given` may stand where the type `declared` is declared.

    Return False for types so large that comparing them takes more than MAX_STEPS steps.
    """
    try:
        return Comparison(MAX_STEPS).castable(given, declared)
    except TypesTooLarge:
        return False


class Comparison:
    """A comparison of types within an allowance of `steps`; its methods raise TypesTooLarge when it is used up."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        # Nested unions are compared again and again; without a cache the comparisons are exponential in the depth.
        self._unions: dict[tuple[bytes, bytes], bool] = {}
        # Many nodes pass on the same few dataclasses.
        self._structs: dict[tuple[bytes, bytes], bool] = {}
        # Serialized types by the identity of the type, which each entry keeps alive: nodes refer to the same types.
        self._serialized: LRUCache[int, tuple[Message, bytes]] = LRUCache(_KEPT_BYTES, lambda entry: len(entry[1]))

    def castable(self, given: LiteralType, declared: LiteralType) -> bool:
        """Return what the function of this name returns; raise TypesTooLarge."""
        variants = given.union_type.variants
        if len(variants) == 1 and self._accepts(variants[0], declared):
            return True
        return self._accepts(given, declared)

    def spend(self, steps: int = 1) -> None:
        """Take `steps` off the allowance; raise TypesTooLarge when it is used up."""
        self._steps -= steps
        if self._steps < 0:
            raise TypesTooLarge

    def spend_size(self, *messages: Message) -> None:
        """Take the steps of comparing, copying or serializing `messages` off the allowance, as `spend`."""
        for message in messages:
            self.spend(message.ByteSize() // BYTES_PER_STEP)

    def _accepts(self, given: LiteralType, declared: LiteralType) -> bool:
        self.spend()
        match declared.WhichOneof("type"):
            case "collection_type":
                return self._collection(given, declared)
            case "map_value_type":
                return self._map(given, declared)
            case "blob":
                return self._blob_fits(given, declared)
            case "union_type":
                return self._union(given, declared)
            case "schema":
                return self._schema(given, declared)
            case "structured_dataset_type":
                return self._structured_dataset(given, declared)
        return self._simple(given, declared)

    def _simple(self, given: LiteralType, declared: LiteralType) -> bool:
        kind, declared_kind = given.WhichOneof("type"), declared.WhichOneof("type")
        if kind != declared_kind:
            # An enum is a string that allows only some values.
            return (kind == "enum_type" and _is_simple(declared, _STRING)) or (
                declared_kind == "enum_type" and _is_simple(given, _STRING)
            )
        if _is_simple(declared, _NONE):
            return given.simple == _NONE
        if tag := given.structure.tag:
            self.spend(len(tag) // BYTES_PER_STEP)
            if tag != declared.structure.tag:
                return False
        if _is_simple(given, _STRUCT) and _is_simple(declared, _STRUCT):
            if not (given.HasField("metadata") and declared.HasField("metadata")):
                return True
            return self._struct(given.metadata, declared.metadata)
        self.spend(len(given.enum_type.values))
        return given.simple == declared.simple and given.enum_type == declared.enum_type

    def _struct(self, given: Struct, declared: Struct) -> bool:
        key = self._pair(given, declared)
        if key not in self._structs:
            self.spend((len(key[0]) + len(key[1])) // BYTES_PER_STEP)
            self._structs[key] = struct_castable(given, declared, self.spend)
        return self._structs[key]

    def _pair(self, one: Message, other: Message) -> tuple[bytes, bytes]:
        return self._key(one), self._key(other)

    def _key(self, message: Message) -> bytes:
        kept = self._serialized.get(id(message))
        if kept is not None:
            return kept[1]
        self.spend_size(message)
        key = message.SerializeToString(deterministic=True)
        if _SMALLEST_KEPT_BYTES <= len(key) <= _KEPT_BYTES:
            self._serialized[id(message)] = (message, key)
        return key

    def _collection(self, given: LiteralType, declared: LiteralType) -> bool:
        if not given.HasField("collection_type"):
            return False
        inner = given.collection_type
        return _is_simple(inner, _NONE) or self._accepts(inner, declared.collection_type)

    def _map(self, given: LiteralType, declared: LiteralType) -> bool:
        if not given.HasField("map_value_type"):
            return False
        inner = given.map_value_type
        return _is_simple(inner, _NONE) or self._accepts(inner, declared.map_value_type)

    def _union(self, given: LiteralType, declared: LiteralType) -> bool:
        if not given.HasField("union_type"):
            variants = declared.union_type.variants
            if _is_simple(given, _NONE) and any(_is_simple(variant, _NONE) for variant in variants):
                return True  # though a structured dataset among the variants accepts None, too
            # More than one fitting variant is as bad as none: which one is meant cannot be decided.
            fits = (variant for variant in variants if self.castable(given, variant))
            return next(fits, None) is not None and next(fits, None) is None
        key = self._pair(given, declared)
        if key not in self._unions:
            self._unions[key] = all(
                any(self.castable(variant, other) for other in declared.union_type.variants)
                for variant in given.union_type.variants
            )
        return self._unions[key]

    def _schema(self, given: LiteralType, declared: LiteralType) -> bool:
        schema = declared.schema
        if given.HasField("schema"):
            return self._columns(self._schema_columns(given.schema), self._schema_columns(schema), int.__eq__)
        dataset = given.structured_dataset_type
        if not given.HasField("structured_dataset_type") or not self._same_format(dataset.format, _PARQUET):
            return False
        return self._columns(
            self._dataset_columns(dataset), self._schema_columns(schema), lambda d, s: _same_column(s, d)
        )

    def _structured_dataset(self, given: LiteralType, declared: LiteralType) -> bool:
        # A structured dataset may always be None.
        if _is_simple(given, _NONE):
            return True
        dataset = declared.structured_dataset_type
        if given.HasField("schema"):
            if not self._same_format(dataset.format, _PARQUET):
                return False
            return self._columns(self._schema_columns(given.schema), self._dataset_columns(dataset), _same_column)
        own = given.structured_dataset_type
        if not given.HasField("structured_dataset_type") or not self._same_format(own.format, dataset.format):
            return False
        return self._columns(self._dataset_columns(own), self._dataset_columns(dataset), self._accepts)

    def _schema_columns(self, schema: SchemaType) -> list[tuple[str, int]]:
        self.spend(len(schema.columns))
        return [(column.name, column.type) for column in schema.columns]

    def _dataset_columns(self, dataset: StructuredDatasetType) -> list[tuple[str, LiteralType]]:
        self.spend(len(dataset.columns))
        return [(column.name, column.literal_type) for column in dataset.columns]

    def _same_format(self, one: str, other: str) -> bool:
        self.spend((len(one) + len(other)) // BYTES_PER_STEP)
        return not one or not other or one.casefold() == other.casefold()

    def _blob_fits(self, given: LiteralType, declared: LiteralType) -> bool:
        # Files and folders alike: clients rely on either being accepted for the other.
        formats = (given.blob.format, declared.blob.format)
        self.spend(sum(map(len, formats)) // BYTES_PER_STEP)
        return given.HasField("blob") and (not all(formats) or formats[0] == formats[1])

    def _columns(
        self,
        given: Sequence[tuple[str, Given]],
        declared: Sequence[tuple[str, Declared]],
        same: Callable[[Given, Declared], bool],
    ) -> bool:
        """Return whether every column of `declared` is among `given`; a side without columns allows any."""
        present = dict(given)
        if not present:
            return True
        for name, declared_type in declared:
            self.spend()
            if name not in present or not same(present[name], declared_type):
                return False
        return True


def _is_simple(literal_type: LiteralType, simple: SimpleType) -> bool:
    return literal_type.HasField("simple") and literal_type.simple == simple


def _same_column(schema_type: int, literal_type: LiteralType) -> bool:
    return schema_type in _COLUMN_TYPES and _is_simple(literal_type, _COLUMN_TYPES[schema_type])
