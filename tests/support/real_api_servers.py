"""A real kube-apiserver with its etcd, on free ports: RBAC, service accounts, quotas, and no nodes."""

import asyncio
import json
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.kit.kubernetes.access import Access, from_files
from services.kit.kubernetes.client import KubernetesClient
from tests.support.cluster_binaries import binaries
from tests.support.parts import free_port

ADMIN_TOKEN = "admin-token"  # noqa: S105  # of a server that a test starts
_READY_SECONDS = 120.0
_END_SECONDS = 20.0
_ISSUER = "https://kubernetes.default.svc"


@dataclass
class RealApiServer:
    """A running API server; `stop` and `start` restart it with its data."""

    url: str
    folder: Path
    _command: Sequence[str] = field(repr=False)
    etcd_pid: int
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pids(self) -> Mapping[str, int]:
        """The process ids of both."""
        own = {} if self._process is None else {"kube-apiserver": self._process.pid}
        return {"etcd": self.etcd_pid, **own}

    @property
    def ca_file(self) -> Path:
        """The certificate of its own authority."""
        return self.folder / "certificates" / "apiserver.crt"

    @property
    def token_file(self) -> Path:
        """The token of a user who may do everything."""
        return self.folder / "admin.token"

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings of a cluster, except its id."""
        return {"server": self.url, "ca_file": str(self.ca_file), "token_file": str(self.token_file)}

    def access(self) -> Access:
        """Return the access of the user who may do everything."""
        return from_files(self.url, authorities=self.ca_file, token=self.token_file)

    def client(self) -> KubernetesClient:
        """Return a client with that access; it must be closed."""
        return KubernetesClient.open(self.access)

    def request(self, verb: str, path: str, content: Any = None, token: str = ADMIN_TOKEN) -> Any:
        """Return the JSON of a response; raise HTTPError. For what the product's client does not do."""
        request = urllib.request.Request(  # noqa: S310  # the URL is this server's
            self.url + path,
            method=verb,
            data=None if content is None else json.dumps(content).encode(),
            headers={
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/merge-patch+json" if verb == "PATCH" else "application/json",
            },
        )
        context = ssl.create_default_context(cafile=self.ca_file)
        with urllib.request.urlopen(request, context=context, timeout=30) as response:  # noqa: S310  # same
            return json.loads(response.read())

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        with (self.folder / "apiserver.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        self.wait_for("/api/v1/namespaces/default")

    def wait_for(self, path: str) -> None:
        """Wait until the server returns what is at `path`; raise RuntimeError with its log if it does not."""
        end = time.monotonic() + _READY_SECONDS
        while True:
            try:
                self.request("GET", path)
            except OSError:  # of HTTP, too
                ended = self._process is None or self._process.poll() is not None
                if ended or time.monotonic() > end:
                    raise RuntimeError((self.folder / "apiserver.log").read_text()[-4000:]) from None
                time.sleep(0.2)
            else:
                return

    def stop(self) -> None:
        """End it; its data stay in etcd."""
        if self._process is not None:
            _end(self._process)
            self._process = None

    def install(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects, by their apiVersion and kind."""

        async def apply() -> None:
            client = self.client()
            for each in objects:
                kind = await client.resource_type(each["apiVersion"], each["kind"])
                namespace = each["metadata"].get("namespace", "")
                await client.apply(kind, namespace, each, field_manager="tests", force=True)
            await client.close()

        asyncio.run(apply())


@contextmanager
def real_api_server(folder: Path, *options: str, fsync: bool = False) -> Iterator[RealApiServer]:
    """Run etcd and an API server during the block, with their files in `folder`.

    Args:
        folder: a folder that is created.
        options: further options of kube-apiserver.
        fsync: whether etcd syncs its files to disk, as a benchmark needs; tests do not need the data after a crash.
    """
    built = binaries()
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        etcd, pid = stack.enter_context(_running_etcd(built / "etcd", folder, fsync=fsync))
        server = RealApiServer(*_prepared(built / "kube-apiserver", folder, etcd, options), etcd_pid=pid)
        stack.callback(server.stop)
        server.start()
        yield server


@contextmanager
def _running_etcd(binary: Path, folder: Path, *, fsync: bool) -> Iterator[tuple[str, int]]:
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    command = [
        str(binary),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--log-level=warn",
        *([] if fsync else ["--unsafe-no-fsync"]),
    ]
    with (folder / "etcd.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield client, process.pid
    finally:
        _end(process)


def _prepared(binary: Path, folder: Path, etcd: str, options: Sequence[str]) -> tuple[str, Path, Sequence[str]]:
    key = folder / "service-account.key"
    _openssl("genrsa", "-out", key, "2048")
    _make_client_certificate(folder)
    tokens = folder / "tokens.csv"
    tokens.write_text(f'{ADMIN_TOKEN},admin,admin,"system:masters"\n')
    (folder / "admin.token").write_text(ADMIN_TOKEN)
    port = free_port()
    command = [
        str(binary),
        f"--etcd-servers={etcd}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder / 'certificates'}",
        f"--token-auth-file={tokens}",
        f"--client-ca-file={folder / 'client-ca.crt'}",
        f"--service-account-issuer={_ISSUER}",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--authorization-mode=RBAC",
        # No controller makes service accounts and their tokens here.
        "--disable-admission-plugins=ServiceAccount",
        *options,
    ]
    return f"https://127.0.0.1:{port}", folder, command


def _make_client_certificate(folder: Path) -> None:
    """Make an authority of client certificates, and a certificate of a user who may do everything."""
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    authority, own = folder / "client-ca", folder / "client"
    _openssl("req", "-x509", *curve, "-subj", "/CN=ca", "-keyout", f"{authority}.key", "-out", f"{authority}.crt")
    _openssl("req", *curve, "-subj", "/O=system:masters/CN=me", "-keyout", f"{own}.key", "-out", f"{own}.csr")
    signing = ("-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-CAcreateserial")
    _openssl("x509", "-req", "-in", f"{own}.csr", *signing, "-out", f"{own}.crt")


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
