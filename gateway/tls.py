"""TLS of the gateway: a certificate that Envoy reads again when its files change.

Certificates are renewed every few weeks, in Kubernetes by replacing what a folder's symbolic link points to. Envoy
watches the folder of files that a secret names, and not of those that a listener names.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECRET_FILE = "certificate.yaml"  # noqa: S105 - the name of a file
"""The file of the secret, next to envoy.yaml."""

_SECRET = "gateway"  # noqa: S105 - the name of the secret
_TYPES = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"


@dataclass(frozen=True)
class Certificate:
    """The gateway's TLS certificate, with its chain, and its private key: PEM files in one folder."""

    chain: Path
    key: Path


def transport_socket(out: Path) -> dict[str, Any]:
    """Return the transport socket of a listener, whose certificate is in the secret's file in the folder `out`."""
    source = {"path_config_source": {"path": str(out / SECRET_FILE)}, "resource_api_version": "V3"}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPES}.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificate_sds_secret_configs": [{"name": _SECRET, "sds_config": source}],
            },
        },
    }


def secret(certificate: Certificate) -> dict[str, Any]:
    """Return the content of the secret's file.

    Symbolic links stay: they point to other files after a renewal.
    """
    files = {
        "certificate_chain": {"filename": str(certificate.chain.absolute())},
        "private_key": {"filename": str(certificate.key.absolute())},
        "watched_directory": {"path": str(certificate.chain.absolute().parent)},
    }
    return {"resources": [{"@type": f"{_TYPES}.Secret", "name": _SECRET, "tls_certificate": files}]}
