"""Paths in place of `file://` URIs, in what tasks receive.

flytekit takes a `file://` URI for the path of a local file, and does not find it. Where the object store is a folder,
tasks get the paths of its objects: in their inputs, and as the prefix of their raw outputs.
"""

import re

from flyteidl.core.literals_pb2 import Literal, LiteralMap, Scalar

FILE_SCHEME = "file://"
_MESSAGE_PACK = "msgpack"
# What is before a string of 32 bytes or more: its type and its length.
_STRING_HEAD = rb"(?s)(\xd9.|\xda..|\xdb....)"
_WITH_URI = ("blob", "schema", "structured_dataset")


def as_path(uri: str) -> str:
    """Return the path of a `file://` URI; other URIs as they are."""
    return uri.removeprefix(FILE_SCHEME)


def with_paths(values: LiteralMap, store: str) -> LiteralMap:
    """Return `values` with paths in place of `file://` URIs, also within collections, maps, unions and dataclasses.

    Args:
        values: the inputs of a task.
        store: the base URI of the object store; within dataclasses only URIs of its objects are replaced.
    """
    result = LiteralMap()
    result.CopyFrom(values)
    for literal in result.literals.values():
        _replace(literal, store)
    return result


def _replace(literal: Literal, store: str) -> None:
    kind = literal.WhichOneof("value")
    if kind == "scalar":
        _replace_in_scalar(literal.scalar, store)
    elif kind == "collection":
        for item in literal.collection.literals:
            _replace(item, store)
    elif kind == "map":
        for item in literal.map.literals.values():
            _replace(item, store)


def _replace_in_scalar(scalar: Scalar, store: str) -> None:
    kind = scalar.WhichOneof("value")
    if kind in _WITH_URI:
        part = getattr(scalar, kind)
        part.uri = as_path(part.uri)
    elif kind == "union":
        _replace(scalar.union.value, store)
    elif kind == "binary" and scalar.binary.tag == _MESSAGE_PACK and store.startswith(FILE_SCHEME):
        scalar.binary.value = _in_message_pack(scalar.binary.value, store)


def _in_message_pack(data: bytes, store: str) -> bytes:
    """Return a packed value in which strings that begin with `store` begin with its path.

    The scheme is replaced by as many slashes, which mean one: so no length in the value changes.
    """
    begin = store.encode() + b"/"
    slashes = b"/" * len(FILE_SCHEME) + begin.removeprefix(FILE_SCHEME.encode())
    return re.sub(_STRING_HEAD + re.escape(begin), lambda match: match[1] + slashes, data)
