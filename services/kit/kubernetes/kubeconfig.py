"""Kubeconfig files: the cluster and the user of one context."""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from services.kit.kubernetes.access import Access

# Ways to authenticate that run a program or belong to former releases of Kubernetes.
_UNSUPPORTED = ("exec", "auth-provider", "username", "password", "as", "as-uid", "as-groups", "as-user-extra")


def from_kubeconfig(file: Path, context: str = "") -> Access:
    """Return the access of a context of a kubeconfig file, by default of its current context.

    Files that it names are relative to its folder, as for kubectl.

    Raises:
        OSError: A file cannot be read.
        ValueError: The file is no kubeconfig, has no such context, or authenticates in a way that is not supported.
    """
    try:
        config = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not YAML") from error
    if not isinstance(config, dict):
        raise ValueError(f"{file} is no kubeconfig")  # noqa: TRY004  # the content of a file is wrong, not a type
    name = context or str(config.get("current-context") or "")
    chosen = _entry(config, "context", name, file)
    cluster = _entry(config, "cluster", str(chosen.get("cluster") or ""), file)
    user = _entry(config, "user", str(chosen["user"]), file) if chosen.get("user") else {}
    for way in _UNSUPPORTED:
        if user.get(way):
            raise ValueError(f"{file}: the user of context {name!r} has {way!r}, which is not supported")
    return _access(cluster, user, file)


def _access(cluster: Mapping[str, Any], user: Mapping[str, Any], file: Path) -> Access:
    server = str(cluster.get("server") or "").rstrip("/")
    if not server.startswith(("https://", "http://")):
        raise ValueError(f"{file}: a cluster needs a server of https://")
    certificate, key = _content(user, "client-certificate", file), _content(user, "client-key", file)
    if bool(certificate) != bool(key):
        raise ValueError(f"{file}: client-certificate and client-key are needed together")
    token_file = user.get("tokenFile")
    token = (file.parent / str(token_file)).read_text().strip() if token_file else str(user.get("token") or "")
    return Access(
        server=server,
        authorities=_content(cluster, "certificate-authority", file),
        verified=not cluster.get("insecure-skip-tls-verify"),
        server_name=str(cluster.get("tls-server-name") or ""),
        token=token,
        certificate=certificate,
        key=key,
        proxy=str(cluster.get("proxy-url") or ""),
    )


def _entry(config: Mapping[str, Any], kind: str, name: str, file: Path) -> Mapping[str, Any]:
    """Return the entry of the list of `kind`s with this name."""
    entries = config.get(f"{kind}s")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(kind), dict):
            found: Mapping[str, Any] = entry[kind]
            return found
    raise ValueError(f"{file} has no {kind} {name!r}")


def _content(entry: Mapping[str, Any], field: str, file: Path) -> bytes:
    """Return the content of `<field>-data`, else of the file that `field` names, else nothing."""
    if data := entry.get(f"{field}-data"):
        try:
            return base64.b64decode(str(data), validate=True)
        except binascii.Error as error:
            raise ValueError(f"{file}: {field}-data is not base64") from error
    return (file.parent / str(entry[field])).read_bytes() if entry.get(field) else b""
