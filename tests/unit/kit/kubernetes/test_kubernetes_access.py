"""Kubeconfig files, credentials of service accounts, and the settings of clusters."""

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from services.kit.kubernetes.access import Access, in_cluster
from services.kit.kubernetes.kubeconfig import from_kubeconfig
from services.kit.kubernetes.settings import Cluster, ClusterSettings


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def kubeconfig(folder: Path, *, user: dict[str, Any], cluster: dict[str, Any] | None = None, **top: Any) -> Path:
    content = {
        "current-context": "main",
        "contexts": [
            {"name": "main", "context": {"cluster": "c", "user": "u"}},
            {"name": "anonymous", "context": {"cluster": "c"}},
            {"name": "dangling", "context": {"cluster": "none", "user": "u"}},
        ],
        "clusters": [{"name": "c", "cluster": cluster or {"server": "https://host:6443/"}}],
        "users": [{"name": "u", "user": user}],
        **top,
    }
    file = folder / "config"
    file.write_text(yaml.safe_dump(content))
    return file


def test_kubeconfig_with_contents(tmp_path: Path) -> None:
    user = {"client-certificate-data": encoded("cert"), "client-key-data": encoded("key")}
    cluster = {
        "server": "https://host:6443",
        "certificate-authority-data": encoded("ca"),
        "tls-server-name": "name",
        "proxy-url": "http://proxy",
    }
    assert from_kubeconfig(kubeconfig(tmp_path, user=user, cluster=cluster)) == Access(
        server="https://host:6443",
        authorities=b"ca",
        server_name="name",
        certificate=b"cert",
        key=b"key",
        proxy="http://proxy",
    )


def test_kubeconfig_with_files_relative_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("ca")
    (tmp_path / "token").write_text("secret\n")
    cluster = {"server": "https://host", "certificate-authority": "ca.crt", "insecure-skip-tls-verify": True}
    file = kubeconfig(tmp_path, user={"tokenFile": "token", "token": "unused"}, cluster=cluster)
    access = from_kubeconfig(file)
    assert (access.authorities, access.token, access.verified) == (b"ca", "secret", False)


def test_kubeconfig_context_is_chosen(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path, user={"token": "secret"})
    assert from_kubeconfig(file) == Access(server="https://host:6443", token="secret")
    assert from_kubeconfig(file, "anonymous") == Access(server="https://host:6443")


@pytest.mark.parametrize(
    ("user", "context", "problem"),
    [
        ({}, "other", "has no context 'other'"),
        ({}, "dangling", "has no cluster 'none'"),
        ({"exec": {"command": "aws"}}, "", "has 'exec', which is not supported"),
        ({"username": "me"}, "", "has 'username', which is not supported"),
        ({"client-key-data": encoded("key")}, "", "are needed together"),
        ({"client-certificate-data": "%", "client-key-data": "%"}, "", "is not base64"),
    ],
)
def test_kubeconfig_that_cannot_be_used_is_refused(
    user: dict[str, Any], context: str, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=problem):
        from_kubeconfig(kubeconfig(tmp_path, user=user), context)


@pytest.mark.parametrize("content", ["a: [", "text", "[]", ""])
def test_file_that_is_no_kubeconfig_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(content)
    with pytest.raises(ValueError, match=str(file)):
        from_kubeconfig(file)


def test_kubeconfig_needs_a_server(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a server of https"):
        from_kubeconfig(kubeconfig(tmp_path, user={}, cluster={"server": "host"}))


@pytest.mark.parametrize(
    ("host", "server"), [("10.0.0.1", "https://10.0.0.1:443"), ("fd00::1", "https://[fd00::1]:443")]
)
def test_service_account_of_a_pod(host: str, server: str, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("ca")
    (tmp_path / "token").write_text("secret\n")
    access = in_cluster(host, "443", tmp_path)
    assert access == Access(server=server, authorities=b"ca", token="secret")


def test_credentials_are_not_shown() -> None:
    access = Access(server="https://host", token="secret", key=b"secret", proxy="http://me:secret@proxy")
    assert "secret" not in repr(access)


def test_certificates_that_are_none_are_refused() -> None:
    for access in (
        Access(server="https://host", authorities=b"text"),
        Access(server="https://host", certificate=b"text", key=b"text"),
    ):
        with pytest.raises(ValueError, match="the certificates for https://host cannot be used"):
            access.tls()


def test_only_another_token_keeps_the_connections() -> None:
    access = Access(server="https://host", token="one")
    assert access.connects_as(Access(server="https://host", token="other"))
    assert not access.connects_as(Access(server="https://host", authorities=b"other"))


@pytest.mark.parametrize(
    ("cluster", "problem"),
    [
        ({"server": "host:6443"}, "must be https://host:port"),
        ({"kubeconfig": "{file}", "server": "https://host"}, "either a kubeconfig, or a server"),
        ({"context": "c"}, "a context needs a kubeconfig"),
        ({"token_file": "{file}"}, "need a server"),
        ({"server": "https://host", "key_file": "{file}"}, "needed together"),
        ({"kubeconfig": "/none"}, "does not point to a file"),
        ({"name": "c"}, "not permitted"),
    ],
)
def test_wrong_cluster_is_refused(cluster: dict[str, str], problem: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    values = {name: value.format(file=tmp_path / "file") for name, value in cluster.items()}
    with pytest.raises(ValidationError, match=problem):
        Cluster.model_validate({"id": "c", **values})


@pytest.mark.parametrize(
    ("clusters", "problem"),
    [
        ([{"id": "a"}, {"id": "a"}], "each id may stand here once"),
        ([{"id": "a"}, {}], "each of several clusters needs an id"),
    ],
)
def test_wrong_clusters_are_refused(clusters: list[dict[str, str]], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        ClusterSettings.model_validate({"clusters": clusters})


def test_default_cluster_is_the_one_in_which_the_process_runs(tmp_path: Path) -> None:
    (cluster,) = ClusterSettings().reachable_clusters
    with pytest.raises(ValueError, match="this process runs in no cluster"):
        cluster.reader({})
    (tmp_path / "token").write_text("secret")
    read = Cluster.model_validate({"server": "https://host/", "token_file": tmp_path / "token"}).reader({})
    assert read() == Access(server="https://host", token="secret")
