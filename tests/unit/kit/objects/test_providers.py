"""The URLs that S3, Google Cloud Storage and Azure are reached by; signing them sends nothing."""

import base64
import json
import subprocess
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from obstore.exceptions import BaseError

from services.kit.errors import InvalidArgument
from services.kit.objects.buckets import BucketAccess
from services.kit.objects.store import ObjectStore

HOUR = timedelta(hours=1)
S3_KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
AZURE_KEY = {"AZURE_STORAGE_ACCOUNT_KEY": base64.b64encode(b"secret").decode()}


def given(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("access", "own", "other"),
    [
        (BucketAccess(), "https://s3.us-east-1.amazonaws.com/own/", "https://s3.us-east-1.amazonaws.com/other/"),
        (
            BucketAccess(region="eu-west-1"),
            "https://s3.eu-west-1.amazonaws.com/own/",
            "https://s3.eu-west-1.amazonaws.com/other/",
        ),
        (
            BucketAccess(region="eu-west-1", path_style=False),
            "https://own.s3.eu-west-1.amazonaws.com/",
            "https://other.s3.eu-west-1.amazonaws.com/",
        ),
        (BucketAccess(endpoint="http://minio:9000"), "http://minio:9000/own/", "http://minio:9000/other/"),
        (
            BucketAccess(endpoint="https://s3.example.com", path_style=False),
            "https://own.s3.example.com/",
            "https://other.s3.example.com/",
        ),
    ],
)
async def test_each_bucket_of_s3_is_in_the_path_or_the_host(
    monkeypatch: pytest.MonkeyPatch, access: BucketAccess, own: str, other: str
) -> None:
    given(monkeypatch, S3_KEYS)
    store = ObjectStore.open("s3://own/flyte", "", "", access.with_buckets(("s3://other",)))
    assert (await store.sign_get("s3://own/flyte/a b", HOUR)).startswith(f"{own}flyte/a%20b?")
    assert (await store.sign_get("s3://own/x", HOUR)).startswith(f"{own}x?")
    assert (await store.sign_get("s3://other/x", HOUR)).startswith(f"{other}x?")
    assert (await store.sign_put("s3://own/flyte/x", HOUR, None)).headers == {}


async def test_a_region_of_s3_is_that_of_the_bucket_of_the_store_or_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given(monkeypatch, {**S3_KEYS, "AWS_REGION": "ap-south-1"})
    buckets = ("s3://far?region=us-west-2", "s3://near")
    for region, expected in (("", "ap-south-1"), ("eu-west-1", "eu-west-1")):
        store = ObjectStore.open("s3://own", "", "", BucketAccess(region=region).with_buckets(buckets))
        for bucket, of_bucket in (("own", expected), ("near", expected), ("far", "us-west-2")):
            query = parse_qs(urlsplit(await store.sign_get(f"s3://{bucket}/x", HOUR)).query)
            assert query["X-Amz-Credential"][0].split("/")[2] == of_bucket


@pytest.fixture(scope="module")
def service_account(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a Google service account with a key of its own."""
    file = tmp_path_factory.mktemp("google") / "account.json"
    command = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
    key = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout.decode()
    account = {"type": "service_account", "private_key": key, "private_key_id": "1", "client_email": "f@p.example.com"}
    file.write_text(json.dumps(account))
    return file


async def test_each_bucket_of_google_is_in_the_path(monkeypatch: pytest.MonkeyPatch, service_account: Path) -> None:
    given(monkeypatch, {"GOOGLE_SERVICE_ACCOUNT": str(service_account)})
    store = ObjectStore.open("gs://own/flyte", "", "", BucketAccess().with_buckets(("gs://other",)))
    for uri in ("gs://own/flyte/x", "gs://own/x", "gs://other/x"):
        url = urlsplit(await store.sign_get(uri, HOUR))
        assert (url.netloc, url.path) == ("storage.googleapis.com", uri.removeprefix("gs:/"))
        assert "f@p.example.com" in parse_qs(url.query)["X-Goog-Credential"][0]
    with pytest.raises(InvalidArgument):
        await store.sign_get("gs://private/x", HOUR)


@pytest.mark.parametrize("url", ["abfs://own/flyte", "az://own/flyte", "abfss://own@lake.dfs.core.windows.net/flyte"])
async def test_each_container_of_azure_is_in_the_path_of_its_account(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    given(monkeypatch, AZURE_KEY)
    allowed = ("abfs://other", "abfs://far@sea.dfs.core.windows.net")
    store = ObjectStore.open(url, "", "", BucketAccess(account="lake").with_buckets(allowed))
    host = "https://lake.blob.core.windows.net"
    for uri, expected in {
        f"{url}/x": f"{host}/own/flyte/x",
        "abfs://own/x": f"{host}/own/x",
        "az://other/x": f"{host}/other/x",
        "abfss://other@lake.dfs.core.windows.net/x": f"{host}/other/x",
        "abfss://far@sea.dfs.core.windows.net/x": "https://sea.blob.core.windows.net/far/x",
    }.items():
        assert (await store.sign_get(uri, HOUR)).partition("?")[0] == expected
    for uri in ("abfs://far/x", "abfss://own@sea.dfs.core.windows.net/x"):
        with pytest.raises(InvalidArgument):
            await store.sign_get(uri, HOUR)
    assert (await store.sign_put(f"{url}/x", HOUR, None)).headers == {"x-ms-blob-type": "BlockBlob"}


def test_a_store_that_lacks_an_account_does_not_open() -> None:
    with pytest.raises(BaseError, match="Account"):
        ObjectStore.open("abfs://own", "", "")
