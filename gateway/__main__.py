"""`python -m gateway render`: write the files that Envoy runs on."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from gateway import routes
from gateway.bootstrap import LARGEST_MESSAGE, Certificate, Settings
from gateway.clusters import Address, AddressError
from gateway.render import render

# A name or an address, in small letters as browsers write it.
_HOST = r"([a-z0-9._-]+|\[[0-9a-f:.]+\])"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    owners = routes.load().owners
    parser = argparse.ArgumentParser(prog="python -m gateway", description=__doc__)
    command = parser.add_subparsers(dest="command", required=True).add_parser("render", help="write Envoy's files")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write into")
    command.add_argument("--listen", type=_address, default="127.0.0.1:30080", metavar="HOST:PORT")
    command.add_argument(
        "--admin",
        type=_address,
        default="127.0.0.1:9901",
        metavar="HOST:PORT|unix:PATH",
        help="Envoy's own page, which can stop it: a socket is for its owner only",
    )
    command.add_argument(
        "--upstream",
        type=_upstream,
        action="append",
        default=[],
        metavar="OWNER=HOST:PORT[,HOST:PORT]",
        help=f"the HTTP/2 servers of one owner (FLYTEPLANE_LEAN_ADDRESS); needed once for each of {', '.join(owners)}",
    )
    command.add_argument(
        "--reflection",
        type=_addresses,
        default=(),
        metavar="HOST:PORT[,...]",
        help="grpcio servers (FLYTEPLANE_GRPC_ADDRESS) for reflection and watched health",
    )
    command.add_argument(
        "--objects", type=_addresses, default=(), metavar="HOST:PORT[,...]", help="HTTP servers of the object store"
    )
    command.add_argument("--tls-chain", type=Path, metavar="FILE", help="PEM certificate with its chain; turns TLS on")
    command.add_argument("--tls-key", type=Path, metavar="FILE", help="PEM private key of the certificate")
    command.add_argument(
        "--cors-origin",
        type=_origin,
        action="append",
        default=[],
        metavar="SCHEME://HOST[:PORT]",
        help="web pages that may call the gateway from there, beside its own; may be repeated",
    )
    command.add_argument(
        "--host",
        type=_host,
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which REST clients and web pages reach the gateway; may be repeated; none: by any",
    )
    command.add_argument(
        "--largest-message",
        type=int,
        default=LARGEST_MESSAGE,
        metavar="BYTES",
        help="what the services take (FLYTEPLANE_MAX_MESSAGE_BYTES)",
    )
    command.add_argument("--access-log", action="store_true", help="a JSON line a request on standard output")
    chosen = parser.parse_args(arguments)
    if sorted(owner for owner, _ in chosen.upstream) != sorted(owners):
        command.error(f"--upstream is needed once for each of {', '.join(owners)}, and for no other")
    if (chosen.tls_chain is None) != (chosen.tls_key is None):
        command.error("--tls-chain and --tls-key are needed together")
    print(  # noqa: T201 - the command's result
        render(
            chosen.out,
            Settings(
                listen=chosen.listen,
                admin=chosen.admin,
                upstreams=dict(chosen.upstream),
                reflection=chosen.reflection,
                objects=chosen.objects,
                tls=Certificate(chosen.tls_chain, chosen.tls_key) if chosen.tls_chain else None,
                origins=chosen.cors_origin,
                hosts=chosen.host,
                largest_message=chosen.largest_message,
                access_log=chosen.access_log,
            ),
        ),
    )


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except AddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _origin(text: str) -> str:
    """Take an origin as browsers write it."""
    if not re.fullmatch(rf"https?://{_HOST}(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not http[s]://host[:port]")
    return text


def _host(text: str) -> str:
    if not re.fullmatch(_HOST, text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a host")
    return text


def _addresses(text: str) -> tuple[Address, ...]:
    return tuple(_address(part) for part in text.split(","))


def _upstream(text: str) -> tuple[str, tuple[Address, ...]]:
    owner, _, addresses = text.partition("=")
    return owner, _addresses(addresses)


if __name__ == "__main__":
    main()
