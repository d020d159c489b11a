"""An s3:// store on a real S3 server: its own bucket, other buckets, signed URLs, roles."""

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from services.kit.errors import InvalidArgument, NotFound, Unavailable
from services.kit.objects.buckets import BucketAccess
from services.kit.objects.errors import UnreadableObject
from services.kit.objects.store import ObjectStore
from services.registry.registration.closures import ClosureStore
from tests.support.s3 import DENIED, FAR_REGION, REGION, S3, behind_tls, proxy, running_s3, written

HOUR = timedelta(hours=1)
# Names that a URL or a signature must encode.
NAMES = ("outputs.pb", "a b/ü.pb", "x=1+2&3/@$,;:()!'~.pb", "100%/#1?.pb", "%41/+.pb")


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    own = ("own", "team-a", "team-b", "private")
    with running_s3({**dict.fromkeys(own, REGION), "far": FAR_REGION, "team-far": FAR_REGION}) as server:
        yield server


def access(s3: S3, *buckets: str) -> BucketAccess:
    return BucketAccess(endpoint=s3.url, region=REGION).with_buckets(buckets)


def store(s3: S3, *buckets: str, url: str = "s3://own/flyte") -> ObjectStore:
    return ObjectStore.open(url, "", "", access(s3, *buckets))


@pytest.mark.parametrize("name", NAMES)
async def test_objects_of_any_name_are_read_and_signed_in_every_allowed_bucket(s3: S3, name: str) -> None:
    objects = store(s3, "s3://team-*")
    content = name.encode()
    uris = [objects.uri(name), f"s3://own/metadata/propeller/{name}", f"s3://team-a/{name}", f"s3a://team-b/raw/{name}"]
    await objects.put(uris[0], content)
    async with httpx.AsyncClient() as client:
        for uri in uris:
            if uri != uris[0]:
                await written(s3, uri, content)
            assert await objects.get(uri) == content, uri
            info = await objects.head(uri)
            assert info is not None
            assert info.size == len(content)
            url = await objects.sign_get(uri, HOUR)
            assert (await client.get(url)).content == content, url
            for other in (url.replace("flyte/", "x/"), url + "0", url.partition("?")[0]):
                if other != url:
                    assert (await client.get(other)).status_code == 403, other
            assert (await client.put(url, content=b"other")).status_code == 403
        assert await objects.get(uris[0]) == content


async def test_an_upload_is_signed_for_its_path_in_the_own_bucket(s3: S3) -> None:
    objects = store(s3, "s3://team-a")
    uri = objects.uri("uploads", "p", "d", "HASH=", "package v1.tar.gz")
    digest = hashlib.md5(b"content", usedforsecurity=False).digest()
    signed = await objects.sign_put(uri, HOUR, digest)
    headers = {"Content-MD5": b64encode(digest).decode(), **signed.headers}
    async with httpx.AsyncClient() as client:
        assert (await client.put(signed.url, content=b"content", headers=headers)).status_code == 200
        assert (await client.put(signed.url, content=b"altered", headers=headers)).status_code == 400
        assert (await client.get(signed.url)).status_code == 403
    assert await objects.get(uri) == b"content"
    with pytest.raises(InvalidArgument):
        await objects.sign_put("s3://team-a/x", HOUR, digest)
    with pytest.raises(InvalidArgument):
        await objects.put("s3://team-a/x", b"x")


async def test_a_url_that_has_expired_is_refused(s3: S3) -> None:
    objects = store(s3)
    await objects.put(objects.uri("short"), b"x")
    url = await objects.sign_get(objects.uri("short"), timedelta(seconds=0))
    async with httpx.AsyncClient() as client:
        assert (await client.get(url)).status_code == 403


async def test_what_is_not_admitted_missing_or_refused_is_lost_and_raises_nothing(s3: S3) -> None:
    objects = store(s3, "s3://team-a/raw", "s3://far", f"s3://{DENIED}", "s3://nowhere")
    await written(s3, "s3://private/secret", b"x")
    await written(s3, "s3://team-a/other", b"x")
    await written(s3, f"s3://{DENIED}/x", b"x")
    await written(s3, "s3://far/x", b"x", FAR_REGION)
    for uri, error in {
        "s3://private/secret": InvalidArgument,
        "s3://team-a/other": InvalidArgument,
        "s3://team-a/rawer/x": InvalidArgument,
        "gs://team-a/raw/x": InvalidArgument,
        "https://team-a/raw/x": InvalidArgument,
        "s3://team-a": InvalidArgument,
        "s3://team-a/raw/../other": InvalidArgument,
        "s3://user@team-a/raw/x": InvalidArgument,
        "s3://team-a/raw/gone": NotFound,
        "s3://nowhere/x": NotFound,
        "s3://own/gone": NotFound,
        f"s3://{DENIED}/x": UnreadableObject,
        "s3://far/x": UnreadableObject,
    }.items():
        with pytest.raises(error):
            await objects.get(uri)
        assert await objects.find(uri, bytes) is None, uri
        assert await objects.head_or_none(uri) is None, uri
        if error is InvalidArgument:
            with pytest.raises(InvalidArgument, match="invalid uri"):
                await objects.sign_get(uri, HOUR)


async def test_the_own_bucket_that_is_gone_or_in_another_region_is_unavailable(s3: S3) -> None:
    for url in ("s3://nowhere/flyte", "s3://far"):
        objects = store(s3, url=url)
        with pytest.raises(Unavailable) as caught:
            await objects.find(objects.uri("x"), bytes)
        assert not isinstance(caught.value, UnreadableObject)


async def test_a_bucket_of_another_region_is_read_with_its_region(s3: S3) -> None:
    await written(s3, "s3://team-far/x", b"far", FAR_REGION)
    await written(s3, "s3://team-b/x", b"near")
    objects = store(s3, "s3://team-far?region=us-west-2", "s3://team-*")
    assert await objects.get("s3://team-far/x") == b"far"
    assert await objects.get("s3://team-b/x") == b"near"
    async with httpx.AsyncClient() as client:
        assert (await client.get(await objects.sign_get("s3://team-far/x", HOUR))).content == b"far"


async def test_a_role_is_assumed_with_the_token_of_a_pod(
    s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in s3.keys:
        monkeypatch.delenv(name)
    token = tmp_path / "token"
    token.write_text("a token of a service account")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ROLE_ARN", s3.create_role("flyteplane"))
    async with behind_tls(s3) as (sts, ca_file):
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts)  # obstore sends the token with TLS only
        objects = ObjectStore.open(
            "s3://own/flyte", "", "", BucketAccess(endpoint=s3.url, region=REGION, ca_file=ca_file)
        )
        uri = objects.uri("by-role")
        await objects.put(uri, b"x")
        url = await objects.sign_get(uri, HOUR)
    assert "X-Amz-Security-Token" in url
    async with httpx.AsyncClient() as client:
        assert (await client.get(url)).content == b"x"


async def test_a_server_with_a_certificate_of_a_private_authority_is_read(s3: S3) -> None:
    async with behind_tls(s3) as (url, ca_file):
        with_tls = BucketAccess(endpoint=url, region=REGION, ca_file=ca_file).with_buckets(("s3://team-a",))
        objects = ObjectStore.open("s3://own/flyte", "", "", with_tls)
        await objects.put(objects.uri("tls"), b"own")
        assert await objects.get(objects.uri("tls")) == b"own"
        assert await objects.get(await written(s3, "s3://team-a/tls", b"other")) == b"other"


async def test_virtual_hosts_have_the_bucket_in_their_name(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    await written(s3, "s3://team-a/virtual", b"other")
    hosts = BucketAccess(endpoint="http://s3.test:9000", region=REGION, path_style=False).with_buckets(("s3://team-a",))
    async with proxy(s3) as proxy_url:  # as such a name resolves nowhere
        monkeypatch.setenv("AWS_PROXY_URL", proxy_url)
        objects = ObjectStore.open("s3://own/flyte", "", "", hosts)
        await objects.put(objects.uri("virtual"), b"own")
        for uri, content in ((objects.uri("virtual"), b"own"), ("s3://team-a/virtual", b"other")):
            assert await objects.get(uri) == content
            url = await objects.sign_get(uri, HOUR)
            assert urlsplit(url).netloc == f"{uri.split('/')[2]}.s3.test:9000"
            async with httpx.AsyncClient(proxy=proxy_url) as client:
                assert (await client.get(url)).content == content


async def test_a_workflow_of_another_bucket_is_read_by_the_registry(s3: S3) -> None:
    uri = await written(s3, "s3://team-a/metadata/admin/p/d/closure", b"closure")
    assert await ClosureStore(store(s3, "s3://team-a"), "metadata/admin", 1000).get(uri) == b"closure"
