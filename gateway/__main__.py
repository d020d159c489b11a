"""`python -m gateway render`: write the files that Envoy runs on."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from gateway import routes
from gateway.bootstrap import Certificate, Settings
from gateway.clusters import Address, AddressError
from gateway.render import render
from gateway.routes import Front

FRONTS = {Front.LEAN: "lean front", Front.BRIDGE: "HTTP/1.1 front"}


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
        help=f"the gRPC servers of one owner; needed once for each of {', '.join(owners)}",
    )
    for front, what in FRONTS.items():
        command.add_argument(
            f"--{front}",
            type=_upstream,
            action="append",
            default=[],
            metavar="OWNER=HOST:PORT[,HOST:PORT]",
            help=f"the {what} of one owner's servers; see routes.toml for what uses it",
        )
    command.add_argument(
        "--objects", type=_addresses, default=(), metavar="HOST:PORT[,...]", help="HTTP servers of the object store"
    )
    command.add_argument("--tls-chain", type=Path, metavar="FILE", help="PEM certificate with its chain; turns TLS on")
    command.add_argument("--tls-key", type=Path, metavar="FILE", help="PEM private key of the certificate")
    command.add_argument("--no-cors", dest="cors", action="store_false", help="no cross-origin requests")
    command.add_argument("--access-log", action="store_true", help="a JSON line a request on standard output")
    chosen = parser.parse_args(arguments)
    if sorted(owner for owner, _ in chosen.upstream) != sorted(owners):
        command.error(f"--upstream is needed once for each of {', '.join(owners)}, and for no other")
    fronts = {front: getattr(chosen, front) for front in FRONTS}
    for front, told in fronts.items():
        named = [owner for owner, _ in told]
        if len(set(named)) < len(named) or not set(named) <= set(owners):
            command.error(f"--{front} is taken at most once for each of {', '.join(owners)}, and for no other")
    if (chosen.tls_chain is None) != (chosen.tls_key is None):
        command.error("--tls-chain and --tls-key are needed together")
    print(  # noqa: T201 - the command's result
        render(
            chosen.out,
            Settings(
                listen=chosen.listen,
                admin=chosen.admin,
                upstreams=dict(chosen.upstream),
                fronts={front: dict(told) for front, told in fronts.items() if told},
                objects=chosen.objects,
                tls=Certificate(chosen.tls_chain, chosen.tls_key) if chosen.tls_chain else None,
                cors=chosen.cors,
                access_log=chosen.access_log,
            ),
        ),
    )


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except AddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _addresses(text: str) -> tuple[Address, ...]:
    return tuple(_address(part) for part in text.split(","))


def _upstream(text: str) -> tuple[str, tuple[Address, ...]]:
    owner, _, addresses = text.partition("=")
    return owner, _addresses(addresses)


if __name__ == "__main__":
    main()
