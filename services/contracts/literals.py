"""The type of a literal (compiler.md#literal-types)."""

from collections.abc import Callable, Iterable

from flyteidl.core.literals_pb2 import Literal, Primitive, Scalar
from flyteidl.core.types_pb2 import (
    BlobType,
    LiteralType,
    SchemaType,
    SimpleType,
    StructuredDatasetType,
    UnionType,
)

from services.contracts.message_text import message_text

# Copying so many bytes of a type twice, and serializing them, takes at most as long as a step.
_BYTES_PER_STEP = 32
# Binary values packed with it are the attributes of a dataclass or a pydantic model.
MESSAGEPACK_TAG = "msgpack"

Spend = Callable[[int], None]

_PRIMITIVES = {
    "integer": SimpleType.INTEGER,
    "float_value": SimpleType.FLOAT,
    "string_value": SimpleType.STRING,
    "boolean": SimpleType.BOOLEAN,
    "datetime": SimpleType.DATETIME,
    "duration": SimpleType.DURATION,
}


def _without_limit(_steps: int) -> None:
    """Allow any number of steps."""


def type_text(literal_type: LiteralType) -> str:
    """Write a type for a message, on one line: `collection_type:{simple:INTEGER}`.

    The time is that of a step of `Spend` for each byte of the serialized type.
    """
    return message_text(literal_type)


def literal_type(literal: Literal, spend: Spend = _without_limit) -> LiteralType | None:
    """Return the type that follows from `literal` alone, or None when it, or anything inside it, has none.

    Args:
        literal: The value.
        spend: Called with the steps of copying and sorting large types, which are not bounded by the size of the
            literal; may raise.
    """
    return _type_of(literal, _TypeTexts(spend))


class _TypeTexts:
    """Texts of types, by which types are sorted. Each is written once: rows of a list have the same few."""

    def __init__(self, spend: Spend) -> None:
        self._spend = spend
        self._texts: dict[bytes, str] = {}

    def key(self, literal_type: LiteralType) -> bytes:
        """Return a type serialized: that of an element, which is copied at each level of nesting."""
        key: bytes = literal_type.SerializeToString(deterministic=True)
        self._spend(len(key) // _BYTES_PER_STEP)
        return key

    def of(self, key: bytes, literal_type: LiteralType) -> str:
        """Return the text of a type; `key` is the type serialized."""
        if key not in self._texts:
            self._spend(len(key))
            self._texts[key] = type_text(literal_type)
        return self._texts[key]


def _type_of(literal: Literal, texts: _TypeTexts) -> LiteralType | None:
    kind = literal.WhichOneof("value")
    if kind == "scalar":
        return scalar_type(literal.scalar)
    if kind == "collection":
        inner = _combined(literal.collection.literals, texts)
        return LiteralType(collection_type=inner) if inner is not None else None
    if kind == "map":
        inner = _combined(literal.map.literals.values(), texts)
        return LiteralType(map_value_type=inner) if inner is not None else None
    if kind == "offloaded_metadata" and literal.offloaded_metadata.HasField("inferred_type"):
        return literal.offloaded_metadata.inferred_type
    return None


def scalar_type(scalar: Scalar) -> LiteralType | None:
    """Return the type that follows from `scalar` alone, or None when it has none."""
    kind = scalar.WhichOneof("value")
    if kind == "primitive":
        return primitive_type(scalar.primitive)
    if kind == "blob":
        return _blob_type(scalar)
    if kind == "binary":
        return LiteralType(simple=SimpleType.STRUCT if scalar.binary.tag == MESSAGEPACK_TAG else SimpleType.BINARY)
    if kind == "schema":
        return LiteralType(schema=scalar.schema.type if scalar.schema.HasField("type") else SchemaType())
    if kind == "structured_dataset":
        return LiteralType(structured_dataset_type=_dataset_type(scalar))
    if kind == "union":
        return LiteralType(union_type=UnionType(variants=[scalar.union.type]))
    if kind == "none_type":
        return LiteralType(simple=SimpleType.NONE)
    if kind == "error":
        return LiteralType(simple=SimpleType.ERROR)
    return LiteralType(simple=SimpleType.STRUCT) if kind == "generic" else None


def primitive_type(primitive: Primitive) -> LiteralType:
    """Return the simple type of `primitive`; one without a value is of type NONE."""
    return LiteralType(simple=_PRIMITIVES.get(primitive.WhichOneof("value") or "", SimpleType.NONE))


def _blob_type(scalar: Scalar) -> LiteralType | None:
    if not scalar.blob.HasField("metadata"):
        return None
    metadata = scalar.blob.metadata
    return LiteralType(blob=metadata.type if metadata.HasField("type") else BlobType())


def _dataset_type(scalar: Scalar) -> StructuredDatasetType:
    metadata = scalar.structured_dataset.metadata
    return metadata.structured_dataset_type if metadata.HasField("structured_dataset_type") else StructuredDatasetType()


def _combined(literals: Iterable[Literal], texts: _TypeTexts) -> LiteralType | None:
    """Return the one type that all of `literals` have, or the union of their types.

    An empty list among them fits lists of any type, so it counts only when there is nothing else.
    """
    types: dict[bytes, LiteralType] = {}
    empty: LiteralType | None = None
    for literal in literals:
        inner = _type_of(literal, texts)
        if inner is None:
            return None
        if literal.WhichOneof("value") == "collection" and not literal.collection.literals:
            empty = inner
        else:
            types[texts.key(inner)] = inner
    if not types:
        return empty or LiteralType(simple=SimpleType.NONE)
    if len(types) == 1:
        return next(iter(types.values()))
    return _union([types[key] for key in sorted(types, key=lambda key: texts.of(key, types[key]))])


def _union(types: list[LiteralType]) -> LiteralType:
    """Return the union of `types`; if lists of unions are among them, return a list of the union of all variants.

    So `[[1, "a"], [2.0, "b"]]`, whose rows differ, is a list of lists of one union.
    """
    variants: list[LiteralType] = []
    nested = False
    for literal_type_ in types:
        if literal_type_.collection_type.HasField("union_type"):
            nested = True
            variants.extend(literal_type_.collection_type.union_type.variants)
        else:
            variants.append(literal_type_)
    union = LiteralType(union_type=UnionType(variants=variants))
    return LiteralType(collection_type=union) if nested else union
