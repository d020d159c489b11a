"""Paths in place of `file://` URIs, in what tasks receive.

flytekit takes a `file://` URI for the path of a local file, and does not find it. Where the object store is a folder,
tasks get the paths of its objects: in their inputs, and as the prefix of their raw outputs.
"""

from flyteidl.core.literals_pb2 import Literal, LiteralMap, Scalar

FILE_SCHEME = "file://"
_WITH_URI = ("blob", "schema", "structured_dataset")


def as_path(uri: str) -> str:
    """Return the path of a `file://` URI; other URIs as they are."""
    return uri.removeprefix(FILE_SCHEME)


def with_paths(values: LiteralMap) -> LiteralMap:
    """Return `values` with paths in place of `file://` URIs, also within collections, maps and unions."""
    result = LiteralMap()
    result.CopyFrom(values)
    for literal in result.literals.values():
        _replace(literal)
    return result


def _replace(literal: Literal) -> None:
    kind = literal.WhichOneof("value")
    if kind == "scalar":
        _replace_in_scalar(literal.scalar)
    elif kind == "collection":
        for item in literal.collection.literals:
            _replace(item)
    elif kind == "map":
        for item in literal.map.literals.values():
            _replace(item)


def _replace_in_scalar(scalar: Scalar) -> None:
    kind = scalar.WhichOneof("value")
    if kind in _WITH_URI:
        part = getattr(scalar, kind)
        part.uri = as_path(part.uri)
    elif kind == "union":
        _replace(scalar.union.value)
