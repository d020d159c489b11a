"""Ways to authenticate to a real API server, from the settings of a cluster."""

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.kit.errors import Unauthenticated
from services.kit.kubernetes.client import KubernetesClient
from services.kit.kubernetes.errors import Unreachable
from services.kit.kubernetes.settings import Cluster
from tests.support.flyte_workflows import NAMESPACES
from tests.support.real_api_servers import RealApiServer


async def read_namespace(cluster: dict[str, Any]) -> str:
    """Return the name of a namespace, read with the settings of a cluster."""
    client = KubernetesClient.open(Cluster.model_validate(cluster).reader())
    try:
        return str((await client.get(NAMESPACES, "", "kube-system"))["metadata"]["name"])
    finally:
        await client.close()


def kubeconfig(api_server: RealApiServer, user: dict[str, str], folder: Path, **cluster: Any) -> str:
    """Write a kubeconfig file; return its path."""
    authority = base64.b64encode(api_server.ca_file.read_bytes()).decode()
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "main",
        "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {"name": "c", "cluster": {"server": api_server.url, "certificate-authority-data": authority, **cluster}}
        ],
        "users": [{"name": "u", "user": user}],
    }
    file = folder / "config"
    file.write_text(yaml.safe_dump(content))
    return str(file)


async def test_token_file(api_server: RealApiServer) -> None:
    assert await read_namespace(dict(api_server.settings)) == "kube-system"


async def test_client_certificate(api_server: RealApiServer, tmp_path: Path) -> None:
    folder = api_server.folder
    files = {"certificate_file": str(folder / "client.crt"), "key_file": str(folder / "client.key")}
    settings = {"server": api_server.url, "ca_file": str(api_server.ca_file)}
    assert await read_namespace(settings | files) == "kube-system"
    (tmp_path / "token").write_text("wrong")
    with pytest.raises(Unauthenticated):
        await read_namespace({**settings, "token_file": str(tmp_path / "token")})


async def test_kubeconfig_with_a_client_certificate(api_server: RealApiServer, tmp_path: Path) -> None:
    user = {
        "client-certificate": str(api_server.folder / "client.crt"),
        "client-key-data": base64.b64encode((api_server.folder / "client.key").read_bytes()).decode(),
    }
    assert await read_namespace({"kubeconfig": kubeconfig(api_server, user, tmp_path)}) == "kube-system"


async def test_kubeconfig_with_a_token_and_the_name_in_the_certificate(
    api_server: RealApiServer, tmp_path: Path
) -> None:
    user = {"tokenFile": str(api_server.token_file)}
    file = kubeconfig(api_server, user, tmp_path, **{"tls-server-name": "kubernetes.default.svc"})
    assert await read_namespace({"kubeconfig": file}) == "kube-system"
    wrong = kubeconfig(api_server, user, tmp_path, **{"tls-server-name": "other.host"})
    with pytest.raises(Unreachable, match="certificate"):
        await read_namespace({"kubeconfig": wrong})


async def test_server_of_an_unknown_authority_is_refused(api_server: RealApiServer) -> None:
    settings = {**api_server.settings, "ca_file": str(api_server.folder / "client-ca.crt")}
    with pytest.raises(Unreachable, match="certificate"):
        await read_namespace(settings)
