"""DataProxyService: upload locations, signed downloads, links to decks."""

import hashlib
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from flyteidl.admin.node_execution_pb2 import (
    NodeExecutionClosure,
)
from flyteidl.service.dataproxy_pb2 import (
    ARTIFACT_TYPE_DECK,
    CreateDownloadLinkRequest,
    CreateDownloadLocationRequest,
    CreateUploadLocationRequest,
)
from flyteidl.service.dataproxy_pb2_grpc import DataProxyServiceStub
from google.protobuf.duration_pb2 import Duration

from services.contracts.identifiers import identifier_text
from tests.support.execution_rows import execution, node, stored
from tests.support.executions import node_id
from tests.support.refusals import refused

MD5 = hashlib.md5(b"content", usedforsecurity=False).digest()


async def test_upload_location_depends_on_the_digest(proxy: DataProxyServiceStub, objects: Path) -> None:
    request = CreateUploadLocationRequest(project="p", domain="d", filename="f", content_md5=MD5)
    first, second = [await proxy.CreateUploadLocation(request) for _ in range(2)]
    assert first.native_url == second.native_url
    assert first.native_url.startswith(f"file://{objects}/uploads/p/d/")
    assert first.native_url.endswith("=/f")
    assert first.signed_url.startswith("http://localhost:30080/objects/uploads/p/d/")
    assert "Content-MD5" in first.headers
    request.filename = ""
    unnamed = await proxy.CreateUploadLocation(request)
    assert len(unnamed.native_url.rpartition("/")[2]) == 20


async def test_named_file_is_not_replaced_by_other_content(proxy: DataProxyServiceStub, objects: Path) -> None:
    stored(objects, "uploads/p/d/folder/f", b"content")
    stored(objects, ".content-md5/uploads/p/d/folder/f", MD5)
    request = CreateUploadLocationRequest(project="p", domain="d", filename="f", filename_root="folder")
    code = grpc.StatusCode.ALREADY_EXISTS
    await refused(proxy.CreateUploadLocation(request), code, "file already exists at location")
    request.content_md5 = bytes(16)
    await refused(proxy.CreateUploadLocation(request), code)
    request.content_md5 = MD5
    assert (await proxy.CreateUploadLocation(request)).native_url == f"file://{objects}/uploads/p/d/folder/f"
    # For a file uploaded without metadata the content decides.
    (objects / ".content-md5/uploads/p/d/folder/f").unlink()
    assert (await proxy.CreateUploadLocation(request)).native_url == f"file://{objects}/uploads/p/d/folder/f"
    request.content_md5 = bytes(16)
    await refused(proxy.CreateUploadLocation(request), code)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"project": ""}, "project and domain are required parameters"),
        ({"content_md5": b""}, "content_md5 or filename_root is a required parameter"),
        ({"content_md5": b"short"}, "content_md5 has 5 bytes"),
        ({"expires_in": Duration(seconds=3601)}, "cannot exceed max allowed expiration"),
        ({"expires_in": Duration(seconds=-1)}, "is invalid"),
        ({"filename_root": "../../metadata"}, "invalid uri"),
    ],
)
async def test_invalid_uploads_are_refused(proxy: DataProxyServiceStub, fields: dict[str, Any], message: str) -> None:
    request = CreateUploadLocationRequest(**{"project": "p", "domain": "d", "content_md5": MD5, **fields})
    await refused(proxy.CreateUploadLocation(request), grpc.StatusCode.INVALID_ARGUMENT, message)


async def test_download_is_signed_for_objects_of_the_own_store_only(proxy: DataProxyServiceStub, objects: Path) -> None:
    own = CreateDownloadLocationRequest(native_url=f"file://{objects}/x")
    assert (await proxy.CreateDownloadLocation(own)).signed_url.startswith("http://localhost:30080/objects/x?")
    for url in ("s3://other/secret", "file:///etc/passwd", f"file://{objects}/../x", ""):
        foreign = CreateDownloadLocationRequest(native_url=url)
        await refused(
            proxy.CreateDownloadLocation(foreign),
            grpc.StatusCode.INVALID_ARGUMENT,
            "error while validating request",
        )


async def test_link_to_a_deck_is_in_old_and_new_fields(
    proxy: DataProxyServiceStub, database: psycopg.AsyncConnection[Any], objects: Path
) -> None:
    await execution(database, "decks")
    deck = stored(objects, "deck.html", b"<html>")
    await node(database, "decks", "n0", closure=NodeExecutionClosure(deck_uri=deck))
    await node(database, "decks", "n1")
    await node(database, "decks", "n2", closure=NodeExecutionClosure(deck_uri=f"file://{objects}/gone.html"))

    def request(name: str) -> CreateDownloadLinkRequest:
        return CreateDownloadLinkRequest(artifact_type=ARTIFACT_TYPE_DECK, node_execution_id=node_id("decks", name))

    link = await proxy.CreateDownloadLink(request("n0"))
    assert list(link.signed_url) == list(link.pre_signed_urls.signed_url)
    assert link.expires_at == link.pre_signed_urls.expires_at
    named = f"[artifact_type:ARTIFACT_TYPE_DECK node_execution_id:{{{identifier_text(node_id('decks', 'n1'))}}}]"
    none = f"no deckUrl found for request {named}"
    await refused(proxy.CreateDownloadLink(request("n1")), grpc.StatusCode.NOT_FOUND, none)
    await refused(proxy.CreateDownloadLink(request("n2")), grpc.StatusCode.NOT_FOUND, "object not found")
    await refused(proxy.CreateDownloadLink(request("n3")), grpc.StatusCode.INVALID_ARGUMENT)
    undefined = CreateDownloadLinkRequest(node_execution_id=node_id("decks", "n0"))
    await refused(proxy.CreateDownloadLink(undefined), grpc.StatusCode.INVALID_ARGUMENT)
