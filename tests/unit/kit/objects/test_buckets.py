"""Which URIs name which buckets, and which of them may be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.errors import InvalidArgument
from services.kit.objects.buckets import PROVIDERS, AllowedBucket, BucketAccess, ObjectUri

AZURE_HOST = "lake.dfs.core.windows.net"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://b/k", ("s3", "", "b", "k")),
        ("s3a://b/a/k?x#y%20", ("s3", "", "b", "a/k?x#y%20")),
        ("s3://b", ("s3", "", "b", "")),
        ("gs://my_bucket.example.com//k", ("gs", "", "my_bucket.example.com", "/k")),
        ("abfs://c/k", ("az", "", "c", "k")),
        (f"abfss://c@{AZURE_HOST}/k", ("az", "lake", "c", "k")),
        ("s3://b/k@host/x", ("s3", "", "b", "k@host/x")),
    ],
)
def test_a_uri_names_a_bucket_and_a_key(uri: str, expected: tuple[str, ...]) -> None:
    assert ObjectUri.parse(uri) == expected


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "b/k",
        "://b/k",
        "s3:/b/k",
        "s3:///k",
        "S3://b/k",
        "http://b/k",
        "file:///k",
        "s3://user@b/k",
        "s3://b:9000/k",
        "s3://evil.com#/k",
        "s3://evil.com?/k",
        "s3://../k",
        "s3://b\n/k",
        "abfs://c@/k",
        "abfs://@host/k",
        "abfs://c@host:1/k",
    ],
)
def test_a_uri_of_no_bucket_is_refused(uri: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid uri"):
        ObjectUri.parse(uri)


@given(st.text())
def test_any_text_is_a_uri_or_refused(text: str) -> None:
    try:
        parsed = ObjectUri.parse(text)
    except InvalidArgument:
        return
    assert parsed.provider in PROVIDERS.values()
    assert text.endswith(parsed.key)


@pytest.mark.parametrize(
    ("allowed", "admitted", "refused"),
    [
        ("s3://b", ("s3://b/k", "s3a://b/a/b"), ("s3://bb/k", "s3://ab/k", "gs://b/k", "s3://B/k")),
        ("s3://b/", ("s3://b/k",), ("s3://bb/k",)),
        ("s3://b/x/y/", ("s3://b/x/y/k",), ("s3://b/x/y", "s3://b/x/yz", "s3://b/k")),
        ("s3://team-*", ("s3://team-/k", "s3://team-a.b/k"), ("s3://team/k", "s3://my-team-a/k")),
        ("s3://*-raw-*/x", ("s3://a-raw-b/x/k",), ("s3://a-raw/x/k", "s3://a-raw-b/k")),
        ("gs://*", ("gs://anything/k",), ("s3://anything/k",)),
        ("s3://a.b", ("s3://a.b/k",), ("s3://a-b/k",)),
        ("abfs://c", ("az://c/k", f"abfss://c@own.{AZURE_HOST}/k"), (f"abfss://c@{AZURE_HOST}/k",)),
        (f"abfss://c@{AZURE_HOST}", (f"abfss://c@{AZURE_HOST}/k",), ("abfs://c/k",)),
        ("s3://b?region=eu-west-1", ("s3://b/k",), ()),
    ],
)
def test_an_entry_admits_its_buckets_only(allowed: str, admitted: tuple[str, ...], refused: tuple[str, ...]) -> None:
    access = BucketAccess(account="own").with_buckets((allowed,))
    for uri in admitted:
        assert access.entry(access.located(uri)), uri
    for uri in refused:
        assert access.entry(access.located(uri)) is None, uri


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "*",
        "s3://",
        "s3:///k",
        "file:///x",
        "s3://a b",
        "s3://b/x*",
        "s3://b?zone=1",
        "gs://b?region=eu",
        "s3://b?region=a&region=b",
    ],
)
def test_a_text_that_allows_no_bucket_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="bucket"):
        AllowedBucket.parse(text)


def test_the_first_entry_that_admits_a_bucket_has_its_region() -> None:
    access = BucketAccess().with_buckets(("s3://far?region=us-west-2", "s3://*"))
    far, near = (access.entry(ObjectUri.parse(f"s3://{name}/k")) for name in ("far", "near"))
    assert far is not None
    assert near is not None
    assert (far.region, near.region) == ("us-west-2", "")


def test_a_text_of_no_bucket_allows_nothing_more() -> None:
    for text in ("", "no uri", "file:///x"):
        assert BucketAccess().with_bucket_of(text) == BucketAccess()
