"""Interfaces in a resource: without what an engine does not read (engine.md#flyteworkflow-object)."""

from flyteidl.core.interface_pb2 import TypedInterface
from flyteidl.core.types_pb2 import LiteralType

# An annotation with this key is part of the keys of cached results.
_CACHE_KEY_METADATA = "cache-key-metadata"


def strip_interface(interface: TypedInterface) -> None:
    """Delete descriptions of variables, and metadata and annotations of types at any depth, from `interface`."""
    for variables in (interface.inputs.variables, interface.outputs.variables):
        for name in variables:
            variable = variables[name]
            variable.ClearField("description")
            if variable.HasField("type"):
                _strip(variable.type)


def _strip(literal_type: LiteralType) -> None:
    literal_type.ClearField("metadata")
    if _CACHE_KEY_METADATA not in literal_type.annotation.annotations.fields:
        literal_type.ClearField("annotation")
    attributes = literal_type.structure.dataclass_type
    for name in attributes:
        _strip(attributes[name])
    match literal_type.WhichOneof("type"):
        case "union_type":
            for variant in literal_type.union_type.variants:
                _strip(variant)
        case "map_value_type":
            _strip(literal_type.map_value_type)
        case "collection_type":
            _strip(literal_type.collection_type)
        case "structured_dataset_type":
            for column in literal_type.structured_dataset_type.columns:
                if column.HasField("literal_type"):
                    _strip(column.literal_type)
