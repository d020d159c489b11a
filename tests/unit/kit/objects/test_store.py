"""A file:// store: URIs, signatures and refused requests."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import MemoryStore, S3Store

from services.kit.errors import InvalidArgument, NotFound, PermissionDenied, Unavailable
from services.kit.objects.gateway_urls import GatewayUrls
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
    store.urls.check("GET", "a b/ü", query)
    for verb, path, changes in (
        ("PUT", "a b/ü", {}),
        ("GET", "other", {}),
        ("GET", "a b/ü", {"expires": "99999999999"}),
        ("GET", "a b/ü", {"signature": "x"}),
        ("GET", "a b/ü", {"signature": "ü"}),
        ("GET", "a b/ü", {"md5": "00"}),
    ):
        with pytest.raises(PermissionDenied):
            store.urls.check(verb, path, query | changes)  # type: ignore[arg-type]  # a literal in the table above


async def test_a_signature_expires(store: ObjectStore) -> None:
    url = urlsplit(await store.sign_get(store.uri("a"), -HOUR))
    with pytest.raises(PermissionDenied, match="expired"):
        store.urls.check("GET", "a", dict(parse_qsl(url.query, keep_blank_values=True)))


@given(st.dictionaries(st.sampled_from(["expires", "md5", "keep", "signature"]), st.text()))
def test_an_invented_query_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(PermissionDenied):
        GatewayUrls("http://localhost", b"key").check("GET", "a", query)


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


async def test_a_store_that_is_not_there_is_unavailable_and_not_made_again(store: ObjectStore, tmp_path: Path) -> None:
    folder, away = tmp_path / "objects", tmp_path / "away"
    x = store.uri("x")
    await store.put(x, b"x")
    begun = await store.upload()
    folder.rename(away)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.put(x, b"y"),
        lambda: store.get(x),
        lambda: store.find(x, bytes),
        lambda: store.head(x),
        lambda: store.head_or_none(x),
        lambda: store.md5(x),
        lambda: store.delete([x]),
        lambda: store.delete_older(["a"], datetime.now(UTC)),
        lambda: anext(store.pieces(x, 0, 1)),
        lambda: store.check_writable_path(x),
        store.check_writes,
        store.upload,
        lambda: asyncio.to_thread(begun.publish, "x", b""),
    ]
    for call in calls:
        with pytest.raises(Unavailable):
            await call()
        assert not folder.exists()
    folder.mkdir()  # as a mount point is
    for call in calls:
        with pytest.raises(Unavailable):
            await call()
        assert list(folder.iterdir()) == []
    folder.rmdir()
    away.rename(folder)
    assert await store.get(x) == b"x"
    await store.check_writes()
    begun.discard()


async def test_a_store_of_an_earlier_release_is_opened(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    earlier = ObjectStore.open(f"file://{tmp_path}", "", "key")
    assert await earlier.get(earlier.uri("x")) == b"x"
    await earlier.put(earlier.uri("y"), b"y")


@asynccontextmanager
async def not_found_server(*, lists: int) -> AsyncIterator[str]:
    """Run a server that answers 404, and `lists` to requests that list; yield its URL."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        listed = b"prefix=" in head.partition(b"\r\n")[0]
        body = b"<ListBucketResult/>" if listed and lists == 200 else b"<Error><Code>Missing</Code></Error>"
        content = b"" if head.startswith(b"HEAD") else body
        status = lists if listed else 404
        writer.write(b"HTTP/1.1 %d X\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % (status, len(body)))
        writer.write(content)
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("lists", [200, 403, 404])
async def test_a_missing_bucket_is_unavailable_and_a_missing_object_is_not_found(lists: int) -> None:
    async with not_found_server(lists=lists) as url:
        s3 = S3Store(
            "bucket",
            endpoint=url,
            region="r",
            access_key_id="k",
            secret_access_key="s",
            client_options={"allow_http": True},
        )
        store = ObjectStore("s3://bucket", s3, "", b"")
        if lists == 404:
            for call in (store.get, store.head, store.head_or_none):
                with pytest.raises(Unavailable):
                    await call(store.uri("a"))
        else:
            with pytest.raises(NotFound):
                await store.get(store.uri("a"))
            assert await store.head(store.uri("a")) is None
        with pytest.raises(Unavailable):
            await store.put(store.uri("a"), b"x")


@given(st.text(), st.text(), st.text(), st.text())
def test_a_signature_is_invalid_for_a_path_with_separators(path: str, expires: str, one: str, two: str) -> None:
    urls = GatewayUrls("http://localhost", b"key")
    for separator in ("\n", "\x00", '", "'):
        long_path = f"{path}{separator}{expires}"
        signature = urls._signature("PUT", long_path, {"expires": one, "md5": two})
        query = {"expires": expires, "md5": f"{one}{separator}{two}", "signature": signature}
        with pytest.raises(PermissionDenied, match="does not fit"):
            urls.check("PUT", path, query)
