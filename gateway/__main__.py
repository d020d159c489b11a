"""`python -m gateway render`: write the files that Envoy runs on."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway import routes
from gateway.authentication import SecretError
from gateway.bootstrap import Settings
from gateway.clusters import Address, AddressError
from gateway.render import render
from gateway.tls import Certificate

_FIELDS = Settings.model_fields


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    owners = routes.load().owners
    parser = argparse.ArgumentParser(prog="python -m gateway", description=__doc__)
    command = parser.add_subparsers(dest="command", required=True).add_parser("render", help="write Envoy's files")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write into")
    command.add_argument("--listen", type=_address, metavar="HOST:PORT", **_from("listen"))
    command.add_argument("--admin", type=_address, metavar="HOST:PORT|unix:PATH", **_from("admin"))
    command.add_argument("--stats", type=_address, metavar="HOST:PORT", **_from("stats"))
    command.add_argument("--upstream", type=_upstream, metavar="OWNER=...", **_repeated("upstreams"))
    command.add_argument("--reflection", type=_addresses, metavar="HOST:PORT[,...]", **_from("reflection"))
    command.add_argument("--objects", type=_addresses, metavar="HOST:PORT[,...]", **_from("objects"))
    command.add_argument("--browser-login", type=_addresses, metavar="HOST:PORT[,...]", **_from("browser_login"))
    command.add_argument("--tls-chain", type=Path, metavar="FILE", **_from("tls"))
    command.add_argument("--tls-key", type=Path, metavar="FILE", **_from("tls"))
    command.add_argument("--cors-origin", metavar="ORIGIN", **_repeated("cors_origins"))
    command.add_argument("--host", metavar="NAME", **_repeated("hosts"))
    command.add_argument("--trusted-proxies", type=int, metavar="NUMBER", **_from("trusted_proxies"))
    command.add_argument("--gateway-secret-file", type=Path, metavar="FILE", **_from("gateway_secret_file"))
    command.add_argument("--auth-issuer", metavar="URL", **_from("auth_issuer"))
    command.add_argument("--auth-audience", metavar="AUDIENCE", **_repeated("auth_audiences"))
    command.add_argument("--auth-jwks-url", metavar="URL", **_from("auth_jwks_url"))
    command.add_argument("--auth-jwks-file", type=Path, metavar="FILE", **_from("auth_jwks_file"))
    command.add_argument("--auth-ca-file", type=Path, metavar="FILE", **_from("auth_ca_file"))
    command.add_argument("--engine-key-file", type=Path, metavar="FILE", **_from("engine_key_file"))
    command.add_argument("--max-message-bytes", type=int, metavar="BYTES", **_from("max_message_bytes"))
    command.add_argument("--access-log", action="store_true", **_from("access_log"))
    chosen = parser.parse_args(arguments)
    if sorted(owner for owner, _ in chosen.upstream) != sorted(owners):
        command.error(f"--upstream is needed once for each of {', '.join(owners)}, and for no other")
    if (chosen.tls_chain is None) != (chosen.tls_key is None):
        command.error("--tls-chain and --tls-key are needed together")
    try:
        settings = Settings(
            listen=chosen.listen,
            admin=chosen.admin,
            stats=chosen.stats,
            upstreams=dict(chosen.upstream),
            reflection=chosen.reflection,
            objects=chosen.objects,
            browser_login=chosen.browser_login,
            tls=Certificate(chosen.tls_chain, chosen.tls_key) if chosen.tls_chain else None,
            cors_origins=chosen.cors_origin,
            hosts=chosen.host,
            trusted_proxies=chosen.trusted_proxies,
            gateway_secret_file=chosen.gateway_secret_file,
            auth_issuer=chosen.auth_issuer,
            auth_audiences=chosen.auth_audience,
            auth_jwks_url=chosen.auth_jwks_url,
            auth_jwks_file=chosen.auth_jwks_file,
            auth_ca_file=chosen.auth_ca_file,
            engine_key_file=chosen.engine_key_file,
            max_message_bytes=chosen.max_message_bytes,
            access_log=chosen.access_log,
        )
        print(render(chosen.out, settings))  # noqa: T201 - the command's result
    except ValidationError as error:
        command.error("; ".join(map(_described, error.errors())))
    except SecretError as error:
        command.error(str(error))


def _described(problem: Any) -> str:
    """Return a problem of the settings: of one, by its option, or of several together."""
    return ": ".join([*(str(_FIELDS[name].title) for name in problem["loc"][:1]), problem["msg"]])


def _from(setting: str) -> dict[str, Any]:
    """Return argparse's keywords from the definition of a setting: its default and its description."""
    field = _FIELDS[setting]
    return {"default": field.get_default(call_default_factory=True), "help": field.description}


def _repeated(setting: str) -> dict[str, Any]:
    """Return the same for an option that may be repeated; argparse appends to a list."""
    return {**_from(setting), "action": "append", "default": []}


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
