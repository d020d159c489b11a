"""Values of any type, as flyteadmin's tests of FlyteWorkflow resources give them (engine.md#golden-files)."""

from datetime import UTC, datetime, timedelta

from flyteidl.core.interface_pb2 import TypedInterface
from flyteidl.core.literals_pb2 import (
    Binary,
    Blob,
    BlobMetadata,
    Literal,
    LiteralCollection,
    LiteralMap,
    Primitive,
    Scalar,
    Schema,
    StructuredDataset,
    StructuredDatasetMetadata,
    Union,
    Void,
)
from flyteidl.core.types_pb2 import Error, LiteralType, SimpleType
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

_URI = "/tmp/somepath"  # noqa: S108 - a text in the golden files
_TIME = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=10)


def default_inputs(interface: TypedInterface) -> LiteralMap:
    """Return a value for every input of an interface."""
    return LiteralMap(
        literals={name: default_literal(variable.type) for name, variable in interface.inputs.variables.items()}
    )


def default_literal(declared: LiteralType) -> Literal:
    """Return the value of a type: zero, the empty text, one element, the first variant."""
    match declared.WhichOneof("type"):
        case "collection_type":
            element = default_literal(declared.collection_type)
            return Literal(collection=LiteralCollection(literals=[element]))
        case "map_value_type":
            return Literal(map=LiteralMap(literals={"itemKey": default_literal(declared.map_value_type)}))
    return Literal(scalar=_scalar(declared))


def _scalar(declared: LiteralType) -> Scalar:
    match declared.WhichOneof("type"):
        case "simple":
            return _simple(declared.simple)
        case "blob":
            return Scalar(blob=Blob(uri=_URI, metadata=BlobMetadata(type=declared.blob)))
        case "enum_type":
            return Scalar(primitive=Primitive(string_value=declared.enum_type.values[0]))
        case "schema":
            return Scalar(schema=Schema(uri=_URI, type=declared.schema))
        case "structured_dataset_type":
            metadata = StructuredDatasetMetadata(structured_dataset_type=declared.structured_dataset_type)
            return Scalar(structured_dataset=StructuredDataset(metadata=metadata))
        case "union_type":
            variant = declared.union_type.variants[0]
            return Scalar(union=Union(type=variant, value=default_literal(variant)))
    raise ValueError(f"no value of the type {declared}")


def _simple(simple: int) -> Scalar:
    match simple:
        case SimpleType.NONE:
            return Scalar(none_type=Void())
        case SimpleType.BINARY:
            return Scalar(binary=Binary())
        case SimpleType.ERROR:
            return Scalar(error=Error())
        case SimpleType.STRUCT:
            return Scalar(generic=Struct())
    return Scalar(primitive=_primitive(simple))


def _primitive(simple: int) -> Primitive:
    match simple:
        case SimpleType.FLOAT:
            return Primitive(float_value=0.0)
        case SimpleType.STRING:
            return Primitive(string_value="")
        case SimpleType.BOOLEAN:
            return Primitive(boolean=False)
        case SimpleType.DATETIME:
            time = Timestamp()
            time.FromDatetime(_TIME)
            return Primitive(datetime=time)
        case SimpleType.DURATION:
            return Primitive(duration=Duration(seconds=1))
    return Primitive(integer=0)
