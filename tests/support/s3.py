"""A real S3 server for tests, and the environment in which a service reaches it."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from services.kit.objects.buckets import BucketAccess
from services.kit.objects.store import ObjectStore
from tests.support.parts import await_port, free_port

REGION, FAR_REGION = "eu-central-1", "us-west-2"
DENIED = "denied"
"""A bucket from which nothing can be read."""
KEYS: Mapping[str, str] = {
    "AWS_ACCESS_KEY_ID": "AKIAFLYTEPLANETEST",
    "AWS_SECRET_ACCESS_KEY": "a secret of the tests",
}
"""The environment of a process that has keys."""


@dataclass(frozen=True)
class S3:
    """A server."""

    url: str
    tls_url: str
    ca_file: Path
    """The certificate of `tls_url`."""


@contextmanager
def running_s3(buckets: Mapping[str, str]) -> Iterator[S3]:
    """Run the server during the block.

    Args:
        buckets: the region of each bucket, by name; DENIED is there, too.
    """
    port, tls_port = free_port(), free_port()
    with TemporaryDirectory(prefix="fp-s3-") as folder:
        _make_certificate(folder)
        command = [sys.executable, "-m", "tests.support.s3_server", str(port), str(tls_port), folder, "--deny", DENIED]
        named = (f"{name}={region}" for name, region in {DENIED: REGION, **buckets}.items())
        process = subprocess.Popen([*command, *named], env={**os.environ, **KEYS}, stderr=subprocess.DEVNULL)
        try:
            await_port(port)
            yield S3(f"http://127.0.0.1:{port}", f"https://localhost:{tls_port}", Path(folder, "cert.pem"))
        finally:
            process.terminate()
            process.wait()


def _make_certificate(folder: str) -> None:
    """Write a certificate for localhost and its key to `folder`."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files = ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    plain = ["-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run([*command, *files, *names, *plain], stderr=subprocess.DEVNULL, check=True)


async def written(server: S3, uri: str, content: bytes, region: str = REGION) -> str:
    """Write an object as an engine does, with a client of its own; return its URI."""
    folder = ObjectStore.open(uri.rpartition("/")[0], "", "", BucketAccess(endpoint=server.url, region=region))
    await folder.put(uri, content)
    return uri
