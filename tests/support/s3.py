"""A real S3 server for tests, and the environment in which a service reaches it."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

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


@contextmanager
def running_s3(buckets: Mapping[str, str]) -> Iterator[str]:
    """Run the server during the block; yield its URL.

    Args:
        buckets: the region of each bucket, by name; DENIED is there, too.
    """
    port = free_port()
    command = [sys.executable, "-m", "tests.support.s3_server", str(port), "--deny", DENIED]
    named = (f"{name}={region}" for name, region in {DENIED: REGION, **buckets}.items())
    process = subprocess.Popen([*command, *named], env={**os.environ, **KEYS})
    try:
        await_port(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


async def written(endpoint: str, uri: str, content: bytes, region: str = REGION) -> str:
    """Write an object as an engine does, with a client of its own; return its URI."""
    folder = ObjectStore.open(uri.rpartition("/")[0], "", "", BucketAccess(endpoint=endpoint, region=region))
    await folder.put(uri, content)
    return uri
