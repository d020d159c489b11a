"""How an API server is reached: its address, authorities and credentials.

Everything is read from files that others replace while the process runs: kubelets rotate the tokens of service
accounts, operators renew certificates. So an `Access` holds contents, and its reader is called again.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

# Where kubelets write the credentials of a pod's service account.
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, kw_only=True)
class Access:
    """Address and credentials of an API server; certificates are PEM."""

    server: str
    """https://host[:port][/path], or http:// for a server without TLS."""
    authorities: bytes = b""
    """Certificates of the authorities that the server's certificate is checked against; empty: the system's."""
    verified: bool = True
    """Whether the server's certificate is checked."""
    server_name: str = ""
    """The name in the server's certificate, if it is not the host of `server`."""
    token: str = field(default="", repr=False)
    certificate: bytes = field(default=b"", repr=False)
    """The client certificate, with its chain."""
    key: bytes = field(default=b"", repr=False)
    """The private key of the client certificate."""
    proxy: str = field(default="", repr=False)
    """URL of an HTTP proxy."""

    def connects_as(self, other: "Access") -> bool:
        """Return whether connections of `other` can be used with these credentials: at most the token differs."""
        return replace(self, token="") == replace(other, token="")

    def tls(self) -> ssl.SSLContext:
        """Return the context of TLS connections; raise ValueError if a certificate or key is not usable."""
        try:
            # An empty text of authorities would be an error.
            context = ssl.create_default_context(cadata=self.authorities.decode() or None)
            if not self.verified:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if self.certificate:
                _load_client_certificate(context, self.certificate, self.key)
        except (ssl.SSLError, UnicodeDecodeError) as error:
            raise ValueError(f"the certificates for {self.server} cannot be used: {error}") from error
        return context


ReadAccess = Callable[[], Access]
"""Reads an access from its files; raises OSError or ValueError."""


def in_cluster(host: str, port: str, folder: Path = SERVICE_ACCOUNT) -> Access:
    """Return the access of a pod's service account.

    Args:
        host: host of the API server, as in the variable KUBERNETES_SERVICE_HOST; without brackets.
        port: its port, as in KUBERNETES_SERVICE_PORT.
        folder: where the credentials are.
    """
    return Access(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        authorities=(folder / "ca.crt").read_bytes(),
        token=(folder / "token").read_text().strip(),
    )


def from_files(
    server: str,
    *,
    authorities: Path | None = None,
    token: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
) -> Access:
    """Return an access with the contents of these files."""
    return Access(
        server=server.rstrip("/"),
        authorities=authorities.read_bytes() if authorities else b"",
        token=token.read_text().strip() if token else "",
        certificate=certificate.read_bytes() if certificate else b"",
        key=key.read_bytes() if key else b"",
    )


def _load_client_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # OpenSSL reads them from files only. The folder can be entered by this user alone.
    with TemporaryDirectory(prefix="flyteplane-") as folder:
        certificate_file, key_file = Path(folder) / "certificate.pem", Path(folder) / "key.pem"
        certificate_file.write_bytes(certificate)
        key_file.write_bytes(key)
        context.load_cert_chain(certificate_file, key_file)
