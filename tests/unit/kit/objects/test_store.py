"""A file:// store: URIs, signatures and refused requests."""

import os
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import MemoryStore

from services.kit.errors import InvalidArgument, NotFound, PermissionDenied, Unavailable
from services.kit.objects.store import ObjectStore

HOUR = timedelta(hours=1)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore.open(f"file://{tmp_path}/objects", "http://localhost:30080", "key")


def test_parts_of_a_uri_are_joined_and_empty_ones_dropped(store: ObjectStore) -> None:
    assert store.uri("a", "", "/b/", "c.pb") == store.uri("a/b/c.pb")


@pytest.mark.parametrize(
    "uri",
    ["file:///etc/passwd", "s3://other/x", "", "{base}", "{base}/", "{base}/a/../../x", "{base}//a", "{base}/./a"],
)
async def test_a_uri_outside_the_store_is_refused(store: ObjectStore, uri: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid uri"):
        await store.get(uri.replace("{base}", store.uri()))


async def test_a_stored_object_can_be_read(store: ObjectStore) -> None:
    uri = store.uri("a", "ünï code", "x.pb")
    await store.put(uri, b"data")
    assert await store.get(uri) == b"data"
    info = await store.head(uri)
    assert info is not None
    assert info.size == 4


async def test_a_missing_object_is_not_found(store: ObjectStore) -> None:
    assert await store.head(store.uri("nothing")) is None
    with pytest.raises(NotFound):
        await store.get(store.uri("nothing"))


async def test_a_signature_holds_for_its_verb_and_path_only(store: ObjectStore) -> None:
    url = urlsplit(await store.sign_get(store.uri("a b", "ü"), HOUR))
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    store.check_signature("GET", "a b/ü", query)
    for verb, path, changes in (
        ("PUT", "a b/ü", {}),
        ("GET", "other", {}),
        ("GET", "a b/ü", {"expires": "99999999999"}),
        ("GET", "a b/ü", {"signature": "x"}),
        ("GET", "a b/ü", {"signature": "ü"}),
        ("GET", "a b/ü", {"md5": "00"}),
    ):
        with pytest.raises(PermissionDenied):
            store.check_signature(verb, path, query | changes)  # type: ignore[arg-type]  # a literal in the table above


async def test_a_signature_expires(store: ObjectStore) -> None:
    url = urlsplit(await store.sign_get(store.uri("a"), -HOUR))
    with pytest.raises(PermissionDenied, match="expired"):
        store.check_signature("GET", "a", dict(parse_qsl(url.query, keep_blank_values=True)))


@given(st.dictionaries(st.sampled_from(["expires", "md5", "keep", "signature"]), st.text()))
def test_an_invented_query_is_refused(query: dict[str, str]) -> None:
    store = ObjectStore("file:///objects", None, "http://localhost", b"key")
    with pytest.raises(PermissionDenied):
        store.check_signature("GET", "a", query)


async def test_a_permanently_lost_object_is_none_in_any_store(store: ObjectStore) -> None:
    for any_store in (store, ObjectStore("memory://bucket", MemoryStore(), "", b"")):
        await any_store.put(any_store.uri("folder", "x"), b"\xff")
        assert await any_store.find(any_store.uri("folder", "x"), bytes) == b"\xff"
        lost = ("nothing", "folder", "folder/x/y", "a\x00b", "..", "x#1")
        for uri in (*map(any_store.uri, lost), "s3://other/x", any_store.uri()):
            assert await any_store.find(uri, bytes) is None
            assert await any_store.head_or_none(uri) is None
        assert await any_store.find(any_store.uri("folder", "x"), Timestamp.FromString) is None


def open_files() -> set[Path]:
    return set(Path("/proc/self/fd").iterdir())


async def test_a_folder_or_pipe_is_not_found_and_stays_closed(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "objects" / "folder").mkdir()
    os.mkfifo(tmp_path / "objects" / "pipe")
    before = open_files()
    for name in ("folder", "pipe"):
        with pytest.raises(NotFound):
            await store.get(store.uri(name))
    assert open_files() == before


async def test_a_missing_folder_of_the_store_is_unavailable(store: ObjectStore, tmp_path: Path) -> None:
    await store.put(store.uri("x"), b"x")
    (tmp_path / "objects" / "x").unlink()
    (tmp_path / "objects").rmdir()
    with pytest.raises(Unavailable):
        await store.find(store.uri("x"), bytes)


@given(st.text(), st.text(), st.text(), st.text())
def test_a_signature_is_invalid_for_a_path_with_separators(path: str, expires: str, one: str, two: str) -> None:
    store = ObjectStore("file:///objects", None, "http://localhost", b"key")
    for separator in ("\n", "\x00", '", "'):
        long_path = f"{path}{separator}{expires}"
        signature = store._signature("PUT", long_path, {"expires": one, "md5": two})
        query = {"expires": expires, "md5": f"{one}{separator}{two}", "signature": signature}
        with pytest.raises(PermissionDenied, match="does not fit"):
            store.check_signature("PUT", path, query)
