"""Tasks get paths in place of file URIs, wherever these are in a value."""

import pytest
from flyteidl.core.literals_pb2 import (
    Binary,
    Blob,
    Literal,
    LiteralCollection,
    LiteralMap,
    Primitive,
    Scalar,
    Schema,
    StructuredDataset,
    Union,
)

from deploy.sandbox.engine.tasks.local_paths import as_path, with_paths

STORE = "file:///a/store/with/a/path/of/some/length"


def packed(*texts: str) -> Literal:
    """Return a list of strings of 32 to 255 bytes as a MessagePack value."""
    items = b"".join(b"\xd9" + bytes([len(text.encode())]) + text.encode() for text in texts)
    return Literal(scalar=Scalar(binary=Binary(tag="msgpack", value=bytes([0x90 + len(texts)]) + items)))


def blob(uri: str) -> Literal:
    return Literal(scalar=Scalar(blob=Blob(uri=uri)))


def values(prefix: str) -> LiteralMap:
    file = blob(f"{prefix}/store/a b")
    return LiteralMap(
        literals={
            "file": file,
            "frame": Literal(scalar=Scalar(structured_dataset=StructuredDataset(uri=f"{prefix}/frame"))),
            "schema": Literal(scalar=Scalar(schema=Schema(uri=f"{prefix}/schema"))),
            "list": Literal(collection=LiteralCollection(literals=[file])),
            "map": Literal(map=LiteralMap(literals={"k": file})),
            "union": Literal(scalar=Scalar(union=Union(value=file))),
            "text": Literal(scalar=Scalar(primitive=Primitive(string_value="file:///stays"))),
            "remote": blob("s3://bucket/a"),
        }
    )


def test_file_uris_become_paths_and_nothing_else_changes() -> None:
    given = values("file://")
    assert with_paths(given, STORE) == values("")
    assert given == values("file://")
    assert with_paths(values(""), STORE) == values("")


@pytest.mark.parametrize(("uri", "path"), [("file:///a/b", "/a/b"), ("/a", "/a"), ("s3://b/c", "s3://b/c")])
def test_path_of_a_uri(uri: str, path: str) -> None:
    assert as_path(uri) == path


def test_uris_of_the_store_in_dataclasses_become_paths_of_the_same_length() -> None:
    other = "file:///another/store/with/a/path/of/some/length"
    text = f"a text in which {STORE}/file is named"
    given = LiteralMap(literals={"d": packed(f"{STORE}/ä", other, text, f"{STORE}/b")})
    path = STORE.replace("file://", "/" * 7)
    assert with_paths(given, STORE).literals["d"] == packed(f"{path}/ä", other, text, f"{path}/b")
    assert with_paths(given, "s3://bucket") == given
