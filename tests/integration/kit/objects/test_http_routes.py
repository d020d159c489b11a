"""Signed uploads and downloads over HTTP."""

import asyncio
import base64
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from services.kit.objects import http_routes
from services.kit.objects.http_routes import object_routes
from services.kit.objects.local_files import LocalFiles, Upload
from services.kit.objects.store import ObjectStore
from services.kit.process.http_server import HttpServer
from tests.support.parts import await_port, free_port

HOUR = timedelta(hours=1)
MEBIBYTE = 1024 * 1024
MOST_BYTES = 12 * MEBIBYTE
# More than the sockets between a server and its client take.
LARGE = 32 * MEBIBYTE
# Of asyncio's default executor.
MOST_THREADS = 32


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ObjectStore]:
    async with served_store(tmp_path) as made:
        yield made


@asynccontextmanager
async def served_store(tmp_path: Path) -> AsyncIterator[ObjectStore]:
    port = free_port()
    made = ObjectStore.open(f"file://{tmp_path}/objects", f"http://127.0.0.1:{port}", "key")

    async def ready() -> str:
        return ""

    server = HttpServer(f"127.0.0.1:{port}", ready, object_routes(made, MOST_BYTES))
    serving = asyncio.create_task(server.serve())
    await asyncio.to_thread(await_port, port)
    yield made
    server.stop(1)
    await serving


async def test_an_upload_can_be_downloaded(store: ObjectStore) -> None:
    data = bytes(range(256)) * 4 * 1024 * 12  # 12 MiB, several chunks
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    uri = store.uri("p", "d", "ünï code", "script.tar.gz")
    put = await store.sign_put(uri, HOUR, digest)
    assert put.headers == {"Content-MD5": base64.b64encode(digest).decode()}

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(data), MEBIBYTE):
            yield data[start : start + MEBIBYTE]

    async with httpx.AsyncClient() as client:
        response = await asyncio.to_thread(httpx.put, put.url, content=pieces(), headers=dict(put.headers))
        assert response.status_code == 200
        assert (await client.get(await store.sign_get(uri, HOUR))).content == data
        head = await client.head(await store.sign_get(uri, HOUR))
        assert head.headers["content-length"] == str(len(data))
    assert await store.md5(uri) == digest


async def test_an_upload_with_another_digest_is_refused_and_leaves_the_old_object(store: ObjectStore) -> None:
    uri = store.uri("a")
    await store.put(uri, b"old")
    put = await store.sign_put(uri, HOUR, hashlib.md5(b"new", usedforsecurity=False).digest())
    async with httpx.AsyncClient() as client:
        assert (await client.put(put.url, content=b"wrong")).status_code == 400
    assert await store.get(uri) == b"old"


async def test_an_upload_above_the_limit_is_refused_by_what_has_arrived(store: ObjectStore, tmp_path: Path) -> None:
    put = await store.sign_put(store.uri("a", "b"), HOUR, None)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(MOST_BYTES // MEBIBYTE):
            yield bytes(MEBIBYTE)
        yield b"x"

    async with httpx.AsyncClient() as client:
        response = await client.put(put.url, content=pieces())
        assert (response.status_code, response.text) == (
            413,
            f"the upload is too large: it may have {MOST_BYTES} bytes",
        )
    assert list((tmp_path / "objects" / ".uploads").iterdir()) == []


async def test_a_stale_upload_is_deleted_by_the_next_one(store: ObjectStore, tmp_path: Path) -> None:
    stale, young = tmp_path / "objects" / ".uploads" / "stale", tmp_path / "objects" / ".uploads" / "young"
    stale.parent.mkdir(parents=True)
    for file in (stale, young):
        file.write_bytes(b"x")
    os.utime(stale, (0, 0))
    (await store.upload()).discard()
    assert list(stale.parent.iterdir()) == [young]


async def test_a_request_without_its_signature_is_403(store: ObjectStore) -> None:
    uri = store.uri("a")
    await store.put(uri, b"old")
    get, put = await store.sign_get(uri, HOUR), (await store.sign_put(uri, HOUR, None)).url
    async with httpx.AsyncClient() as client:
        assert (await client.get(get.partition("?")[0])).status_code == 403
        assert (await client.put(get, content=b"x")).status_code == 403
        assert (await client.get(put)).status_code == 403
        assert (await client.get(get.replace("/objects/a", "/objects/b"))).status_code == 403
    assert await store.get(uri) == b"old"


async def test_a_long_query_is_414_before_its_signature_is_checked(store: ObjectStore) -> None:
    get = await store.sign_get(store.uri("x" * 200), HOUR)
    async with httpx.AsyncClient() as client:
        assert (await client.get(get)).status_code == 404
        response = await client.get(f"{get}{'&%' * 500}")
    assert (response.status_code, response.text) == (414, "the query is too long: it may have 1024 bytes")


async def test_slow_readers_of_an_object_do_not_take_the_capacity_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_routes, "MOST_DOWNLOADS", 4)
    async with served_store(tmp_path) as store, httpx.AsyncClient() as client:
        for name in ("one", "other"):
            await store.put(store.uri(name), bytes(LARGE))
        one, other = [await store.sign_get(store.uri(name), HOUR) for name in ("one", "other")]
        async with client.stream("GET", one), client.stream("GET", one):
            refused = await client.get(one)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert (await client.head(one)).status_code == 200
            assert (await client.get(other)).content == bytes(LARGE)
        assert len((await client.get(one)).content) == LARGE


async def test_an_object_that_becomes_shorter_ends_its_download_with_one_line(
    store: ObjectStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await store.put(store.uri("one"), bytes(LARGE))
    async with httpx.AsyncClient() as client, client.stream("GET", await store.sign_get(store.uri("one"), HOUR)) as got:
        os.truncate(tmp_path / "objects" / "one", MEBIBYTE)
        with pytest.raises(httpx.RemoteProtocolError):
            await got.aread()
    # Other loggers may have lines of what earlier tests started.
    lines = [
        record for record in caplog.records if record.name in {"services.kit.objects.http_routes", "uvicorn.error"}
    ]
    assert [line.getMessage() for line in lines if line.name != "uvicorn.error"] == ["a download breaks off"]
    assert not any(line.exc_info for line in lines)


class _RestingUpload(Upload):
    """A large upload whose disk takes long."""

    rested = threading.Event()

    @property
    def size(self) -> int:
        return LARGE

    def publish(self, path: str, expected_md5: bytes) -> None:
        self.rested.wait()
        super().publish(path, expected_md5)


async def test_large_uploads_that_are_published_leave_threads_to_others(store: ObjectStore, tmp_path: Path) -> None:
    files = LocalFiles(tmp_path / "objects")
    resting = [_RestingUpload(files, tmp_path / str(number)) for number in range(MOST_THREADS)]
    publishing = [asyncio.create_task(store.publish(upload, "large", b"")) for upload in resting]
    small = await store.upload()
    try:
        async with asyncio.timeout(10):
            await store.publish(small, "small", b"")
            assert await store.get(store.uri("small")) == b""
        assert not any(each.done() for each in publishing)
    finally:
        _RestingUpload.rested.set()
        await asyncio.gather(*publishing)
        for upload in (*resting, small):
            upload.discard()
    assert await store.get(store.uri("large")) == b""


async def test_a_part_of_an_object_is_not_stored_as_the_object(store: ObjectStore) -> None:
    uri = store.uri("a")
    put = (await store.sign_put(uri, HOUR, None)).url
    async with httpx.AsyncClient() as client:
        part = await client.put(put, content=b"abc", headers={"Content-Range": "bytes 0-2/10"})
        assert (part.status_code, "Content-Range" in part.text) == (400, True)
        assert (await client.get(await store.sign_get(uri, HOUR))).status_code == 404


async def test_a_missing_object_is_404(store: ObjectStore) -> None:
    async with httpx.AsyncClient() as client:
        assert (await client.get(await store.sign_get(store.uri("nothing"), HOUR))).status_code == 404


async def test_a_relative_path_is_403(store: ObjectStore) -> None:
    get = await store.sign_get(store.uri("a"), HOUR)
    async with httpx.AsyncClient() as client:
        assert (await client.get(get.replace("/objects/a", "/objects/..%2Fa"))).status_code == 403


async def test_a_download_that_rests_does_not_delay_the_stop(tmp_path: Path) -> None:
    port = free_port()
    made = ObjectStore.open(f"file://{tmp_path}/objects", f"http://127.0.0.1:{port}", "key")
    await made.put(made.uri("large"), bytes(64 * MEBIBYTE))

    async def ready() -> str:
        return ""

    server = HttpServer(f"127.0.0.1:{port}", ready, object_routes(made, MOST_BYTES))
    serving = asyncio.create_task(server.serve())
    await asyncio.to_thread(await_port, port)
    async with httpx.AsyncClient() as client, client.stream("GET", await made.sign_get(made.uri("large"), HOUR)):
        server.stop(1)
        async with asyncio.timeout(5):
            await serving
