"""An S3 server on PORT with the buckets named as BUCKET=REGION, and STS for roles; on TLS_PORT the same with TLS.

`python -m tests.support.s3_server PORT TLS_PORT FOLDER [--deny BUCKET] BUCKET=REGION ...`; nothing can be read from the
bucket after --deny. FOLDER has cert.pem and key.pem. The access key that the server knows is in its environment. It is
moto's, behind checks of signatures.
"""

import os
from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from threading import Thread
from typing import Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import create_backend_app
from moto.s3.models import s3_backends
from moto.sts.models import sts_backends
from werkzeug.serving import make_server

from tests.support.s3_signatures import SignedRequests


def main() -> None:
    parser = ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("tls_port", type=int)
    parser.add_argument("folder")
    parser.add_argument("buckets", nargs="+")
    parser.add_argument("--deny", default="")
    chosen = parser.parse_args()

    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for bucket in chosen.buckets:
        name, _, region = bucket.partition("=")
        backend.create_bucket(name, region)

    def region_of(name: str) -> str | None:
        return backend.buckets[name].region_name if name in backend.buckets else None

    objects = SignedRequests(create_backend_app("s3"), _secret_of, region_of, chosen.deny)
    sts = create_backend_app("sts")

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        is_sts = environ["REQUEST_METHOD"] == "POST" and environ["PATH_INFO"] == "/"
        return (sts if is_sts else objects)(environ, start_response)

    files = (f"{chosen.folder}/cert.pem", f"{chosen.folder}/key.pem")
    with_tls = make_server("127.0.0.1", chosen.tls_port, app, threaded=True, ssl_context=files)
    Thread(target=with_tls.serve_forever, daemon=True).start()
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
