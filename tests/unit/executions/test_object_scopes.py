"""The project-domain that an object belongs to, by its URI."""

import hashlib

import pytest
from flyteidl.service.dataproxy_pb2 import CreateDownloadLocationRequest

from services.contracts.authorization.methods import ACCESS, EVERYWHERE
from services.executions.config import Settings
from services.executions.rules.object_scopes import scopes_of_objects

BASE = "s3://bucket/flyte"
DIGEST = hashlib.sha256(b"").hexdigest()
SCOPE = ("mine", "development")


def scopes(uri: str, base: str = BASE, **settings: str) -> set[tuple[str, str]]:
    ((path, find),) = scopes_of_objects(base, Settings(signing_key="key", **settings)).items()  # type: ignore[arg-type]
    assert path in ACCESS
    return set(find(CreateDownloadLocationRequest(native_url=uri)))


@pytest.mark.parametrize(
    "path",
    [
        "metadata/mine/development/e/0123456789abcdef/inputs",
        "metadata/mine/development/e/n0/offloaded_outputs",
        f"metadata/admin/mine/development/{DIGEST}",
        f"metadata/admin/mine/development/e/n0/dynamic/{DIGEST}",
        "uploads/mine/development/folder/file",
        "uploads/mine/development/folder/a/b",
        "uploads/@acme/mine/development/folder/file",
    ],
)
def test_what_the_control_plane_writes_belongs_to_a_project_domain(path: str) -> None:
    assert scopes(f"{BASE}/{path}") == {SCOPE}


@pytest.mark.parametrize(
    "uri",
    [
        "",
        BASE,
        f"{BASE}/raw/a/b/c",
        f"{BASE}/metadata/propeller/mine-development-e/n0/data/0/outputs.pb",
        f"{BASE}/uploads/mine/development/../../others/development/folder/file",
        f"{BASE}/uploads/mine/development/./folder/file",
        f"{BASE}/uploads/mine/development/%2e%2e/file",
        f"{BASE}/uploads/mine/development//folder/file",
        f"{BASE}/uploads/mine",
        f"{BASE}2/uploads/mine/development/folder/file",
        "s3://other/flyte/uploads/mine/development/folder/file",
        f"{BASE}/uploads/mine/development/folder/file\n",
    ],
)
def test_all_else_may_be_of_any_project(uri: str) -> None:
    assert scopes(uri) == {EVERYWHERE}


def test_prefixes_of_settings_count() -> None:
    uri = "file:///objects/up/loads/mine/development/folder/file"
    assert scopes(uri, "file:///objects", upload_prefix="up/loads") == {SCOPE}
    assert scopes(uri, "file:///objects") == {EVERYWHERE}


def test_object_that_fits_two_layouts_belongs_to_both() -> None:
    """A project of the name of the folder of uploads could else read uploads."""
    uri = f"{BASE}/metadata/mine/development/e/inputs"
    assert scopes(uri, upload_prefix="metadata") == {SCOPE}
    assert scopes(f"{BASE}/metadata/x/mine/development/a/inputs", upload_prefix="metadata/x") == {
        SCOPE,
        ("x", "mine"),
    }
