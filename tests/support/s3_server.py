"""An S3 server on PORT with the buckets named as BUCKET=REGION, and STS for roles.

`python -m tests.support.s3_server PORT [--deny BUCKET] BUCKET=REGION ...`; nothing can be read from the bucket after
--deny. The key that it knows is in its environment. The server is moto's, behind checks of signatures.
"""

import json
import os
from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from typing import Any

from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import create_backend_app
from moto.s3.models import s3_backends
from moto.sts.models import sts_backends
from werkzeug.serving import make_server

from tests.support.s3_signatures import SignedRequests

_STATEMENT = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject"}


def main() -> None:
    parser = ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("buckets", nargs="+")
    parser.add_argument("--deny", default="")
    chosen = parser.parse_args()

    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for bucket in chosen.buckets:
        name, _, region = bucket.partition("=")
        backend.create_bucket(name, region)
    if chosen.deny:
        policy = {"Version": "2012-10-17", "Statement": [_STATEMENT | {"Resource": f"arn:aws:s3:::{chosen.deny}/*"}]}
        backend.put_bucket_policy(chosen.deny, json.dumps(policy).encode())

    def region_of(name: str) -> str | None:
        return backend.buckets[name].region_name if name in backend.buckets else None

    objects, sts = SignedRequests(create_backend_app("s3"), _secret_of, region_of), create_backend_app("sts")

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        is_sts = environ["REQUEST_METHOD"] == "POST" and environ["PATH_INFO"] == "/"
        return (sts if is_sts else objects)(environ, start_response)

    make_server("127.0.0.1", chosen.port, app, threaded=True).serve_forever()


def _secret_of(access_key: str) -> tuple[str, str | None] | None:
    """Return the secret and the session token of a key: of the fixed one, or of one that STS gave for a role."""
    if access_key == os.environ["AWS_ACCESS_KEY_ID"]:
        return os.environ["AWS_SECRET_ACCESS_KEY"], None
    for role in sts_backends[DEFAULT_ACCOUNT_ID]["global"].assumed_roles:
        if role.access_key_id == access_key:
            return role.secret_access_key, role.session_token
    return None


if __name__ == "__main__":
    main()
