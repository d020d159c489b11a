"""A real S3 server for tests: it checks signatures, their expiry, regions and policies as Amazon's does."""

import asyncio
import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlencode

import httpx
import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from services.kit.objects.buckets import BucketAccess
from services.kit.objects.store import ObjectStore
from tests.support.parts import await_port, free_port

REGION, FAR_REGION = "eu-central-1", "us-west-2"
DENIED = "denied"
"""A bucket from which nothing can be read."""
_ROOT = Credentials("test", "test")
_USER = "flyteplane"
_KEY = re.compile(r"<AccessKeyId>(.*?)</AccessKeyId>.*<SecretAccessKey>(.*?)</SecretAccessKey>", re.DOTALL)


@dataclass
class S3:
    """A running server."""

    port: int
    keys: dict[str, str] = field(default_factory=dict)
    """The environment of a process that has the keys of a user who may do everything with S3."""

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def create_bucket(self, name: str, region: str) -> None:
        constraint = f"<LocationConstraint>{region}</LocationConstraint>"
        self._send("s3", "PUT", name, f"<CreateBucketConfiguration>{constraint}</CreateBucketConfiguration>", region)

    def deny_reads(self, name: str) -> None:
        """Give a bucket a policy that denies everyone its objects."""
        resource = {"Principal": "*", "Resource": f"arn:aws:s3:::{name}/*"}
        self._send("s3", "PUT", f"{name}?policy=", _policy("Deny", "s3:GetObject", resource))

    def create_user(self) -> None:
        """Create the user of `keys`."""
        self._call_iam("CreateUser", UserName=_USER)
        allow = _policy("Allow", "s3:*", {"Resource": "*"})
        self._call_iam("PutUserPolicy", UserName=_USER, PolicyName="all", PolicyDocument=allow)
        found = _KEY.search(self._call_iam("CreateAccessKey", UserName=_USER))
        assert found
        self.keys |= {"AWS_ACCESS_KEY_ID": found[1], "AWS_SECRET_ACCESS_KEY": found[2]}

    def create_role(self, name: str) -> str:
        """Create a role that may do everything with S3, for bearers of any provider's token; return its ARN."""
        trust = _policy("Allow", "sts:AssumeRoleWithWebIdentity", {"Principal": "*"})
        self._call_iam("CreateRole", RoleName=name, AssumeRolePolicyDocument=trust)
        allow = _policy("Allow", "s3:*", {"Resource": "*"})
        self._call_iam("PutRolePolicy", RoleName=name, PolicyName="all", PolicyDocument=allow)
        return f"arn:aws:iam::000000000000:role/{name}"

    def _call_iam(self, action: str, **parameters: str) -> str:
        return self._send("iam", "POST", "", urlencode({"Action": action, "Version": "2010-05-08", **parameters}))

    def _send(self, service: str, method: str, path: str, body: str, region: str = REGION) -> str:
        form = {"Content-Type": "application/x-www-form-urlencoded"} if service == "iam" else {}
        request = AWSRequest(method, f"{self.url}/{path}", data=body, headers=form)
        signer = S3SigV4Auth if service == "s3" else SigV4Auth
        signer(_ROOT, service, region).add_auth(request)
        response = httpx.request(method, request.url, headers=dict(request.headers), content=body)
        return response.raise_for_status().text


def _policy(effect: str, action: str, rest: Mapping[str, str]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": action, **rest}]})


@contextmanager
def running_s3(buckets: Mapping[str, str]) -> Iterator[S3]:
    """Run the server during the block, with its keys in the environment.

    Args:
        buckets: the region of each bucket, by name; DENIED is there, too.
    """
    server = S3(free_port())
    own = {"GATEWAY_PORT": str(server.port), "BIND_HOST": "127.0.0.1", "AUTH": "true", "LOG_LEVEL": "WARNING"}
    command = [Path(sys.executable).with_name("ministack")]
    process = subprocess.Popen(command, env={**os.environ, **own}, stderr=subprocess.DEVNULL)
    try:
        await_port(server.port)
        server.create_user()
        for name, region in {DENIED: REGION, **buckets}.items():
            server.create_bucket(name, region)
        server.deny_reads(DENIED)
        with pytest.MonkeyPatch.context() as environment:
            for name, value in server.keys.items():
                environment.setenv(name, value)
            yield server
    finally:
        process.terminate()
        process.wait()


@asynccontextmanager
async def behind_tls(server: S3) -> AsyncIterator[tuple[str, Path]]:
    """Serve the server with TLS, too; yield the endpoint and the certificate of its authority."""
    with TemporaryDirectory(prefix="fp-s3-") as folder:
        _make_certificate(folder)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
        async with _forwarding(server, context) as port:
            yield f"https://localhost:{port}", Path(folder, "cert.pem")


@asynccontextmanager
async def proxy(server: S3) -> AsyncIterator[str]:
    """Run an HTTP proxy that reaches the server, whatever host a request is for; yield its URL."""
    async with _forwarding(server, None) as port:
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def _forwarding(server: S3, context: ssl.SSLContext | None) -> AsyncIterator[int]:
    """Pass each request on to the server, with the path alone in its first line, which a proxy gets with a host."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", server.port)
        head = await reader.readuntil(b"\r\n\r\n")
        first, _, rest = head.partition(b"\r\n")
        to_server.write(re.sub(rb"http://[^/]*", b"", first) + b"\r\nConnection: close\r\n" + rest)
        request = asyncio.create_task(_copy(reader, to_server))
        await _copy(from_server, writer)
        writer.close()
        to_server.close()
        request.cancel()

    listener = await asyncio.start_server(forward, "127.0.0.1", 0, ssl=context)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()


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
