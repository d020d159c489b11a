"""`python -m bench.login --out FILE`: what login and roles cost a call, and the rate of events.

Two sandboxes run at the same time, one without and one with login and a policy. The same generator loads them in turn,
as the speed of a machine drifts. The token has the size of usual ones, some 1.2 KB, and is signed with RSA (2048 bits).
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import uvloop
from flyteidl.admin.version_pb2 import GetVersionRequest

from bench.answers import OK
from bench.entities import SERVICE, RefusedError, Shape
from bench.http2 import Channel
from bench.http2_connection import Headers
from bench.processes import cpu_seconds
from bench.report import describe_machine, percentile
from bench.run import Target, run
from bench.stack import running_stack

WITHOUT, WITH = "without", "with login and roles"
_ISSUER, _AUDIENCE = "https://login.example", "flyte"
_EXPONENT = "AQAB"  # 65537, which openssl uses
_CALLS, _WARM_UP = 1000, 100
_IN_FLIGHT = 128
_MICROSECONDS = 1e6
_MILLISECONDS = 1e3
# The targets: milliseconds that both may add to the median of a call, and the share of events that must be left.
_MOST_MILLISECONDS = 0.6
_LEAST_RATE = 0.9

_SETTINGS = """\
auth_issuer = "{issuer}"
authorization_policy = "{policy}"
[gateway]
auth_audiences = ["{audience}"]
auth_jwks_file = "{keys}"
"""
# The bindings of some teams, and those of the generator: it launches executions, and sends events as an engine.
_POLICY = """\
bindings:
  - {role: engine, clients: [propeller], projects: ["*"]}
  - {role: admin, clients: [propeller], projects: ["*"]}
""" + "".join(
    f"  - {{role: contributor, claims: {{groups: [team-{number}]}}, projects: [team-{number}-*]}}\n"
    for number in range(20)
)


def main() -> int:
    """Measure and write the report; return 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.login", description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each load of events lasts")
    options = parser.parse_args()
    figures: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in (WITHOUT, WITH)}
    with ExitStack() as opened:
        folder = Path(opened.enter_context(TemporaryDirectory(prefix="fp-keys-")))
        token = _make_token(folder)
        targets = {WITHOUT: opened.enter_context(running_stack()).target}
        with _settings(folder):
            stack = opened.enter_context(running_stack())
        targets[WITH] = dataclasses.replace(stack.target, headers=[("authorization", f"Bearer {token}")])
        for number in range(options.rounds):
            for name in (WITHOUT, WITH) if number % 2 else (WITH, WITHOUT):
                for figure, value in _measured(targets[name], options.seconds):
                    figures[name][figure].append(value)
    text, missed = _report(figures, options.rounds, len(token))
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text)
    return int(missed)


@contextmanager
def _settings(folder: Path) -> Iterator[None]:
    """Have sandboxes of the block log callers in, and decide by roles."""
    file = folder / "settings.toml"
    policy = folder / "policy.yaml"
    policy.write_text(_POLICY)
    file.write_text(_SETTINGS.format(issuer=_ISSUER, audience=_AUDIENCE, keys=folder / "keys.json", policy=policy))
    os.environ["SANDBOX_SETTINGS"] = str(file)
    try:
        yield
    finally:
        del os.environ["SANDBOX_SETTINGS"]


def _measured(target: Target, seconds: float) -> Iterator[tuple[str, float]]:
    """Yield the figures of one round, by name."""
    before = cpu_seconds(target.pids)
    latencies = uvloop.run(_calls(target.port, target.headers))
    after = cpu_seconds(target.pids)
    yield "p50 of a call, ms", percentile(latencies, 50) * _MILLISECONDS
    for part in ("envoy", "projects"):
        cpu = (after[part] - before[part]) / (_CALLS + _WARM_UP)
        yield f"CPU of {part} a call, µs", cpu * _MICROSECONDS
    loaded = run(target, list(Shape), seconds=seconds, rate=None, in_flight=_IN_FLIGHT, run_id=time.time_ns())
    result = uvloop.run(loaded)
    if result.tally.errors:
        raise RefusedError(str(result.tally.errors))
    events = len(result.tally.events)
    yield "events/s", events / seconds
    for part in ("envoy", "events", "executions"):
        yield f"CPU of {part} an event, µs", result.cpu[part] / events * _MICROSECONDS


async def _calls(port: int, headers: Headers) -> list[float]:
    """Return the latencies of calls one after the other, sorted, in seconds; GetVersion reads no database."""
    channel = Channel("127.0.0.1", port, 1, headers)
    latencies = []
    request = GetVersionRequest().SerializeToString()
    try:
        for number in range(_WARM_UP + _CALLS):
            began = time.perf_counter()
            response = await channel.call(f"{SERVICE}GetVersion", request)
            if response.code != OK:
                raise RefusedError(response.message)
            if number >= _WARM_UP:
                latencies.append(time.perf_counter() - began)
    finally:
        channel.close()
    return sorted(latencies)


def _make_token(folder: Path) -> str:
    """Write a key set; return a token of one of its keys."""
    key = folder / "key.pem"
    _openssl("genrsa", "-out", str(key), "2048")
    modulus = _openssl("rsa", "-in", str(key), "-noout", "-modulus").decode().strip().removeprefix("Modulus=")
    public = {"kty": "RSA", "alg": "RS256", "kid": "1", "n": _encoded(bytes.fromhex(modulus)), "e": _EXPONENT}
    (folder / "keys.json").write_text(json.dumps({"keys": [public]}))
    claims = {
        "iss": _ISSUER,
        "aud": _AUDIENCE,
        "sub": "propeller",
        "azp": "propeller",
        "exp": int(time.time()) + 24 * 3600,
        "groups": [f"a-group-of-people-{number}" for number in range(20)],
    }
    content = f"{_encoded_json({'alg': 'RS256', 'kid': '1'})}.{_encoded_json(claims)}"
    return f"{content}.{_encoded(_openssl('dgst', '-sha256', '-sign', str(key), content=content))}"


def _openssl(*arguments: str, content: str = "") -> bytes:
    command = ["openssl", *arguments]
    return subprocess.run(command, input=content.encode(), capture_output=True, check=True).stdout  # noqa: S603


def _encoded_json(content: Mapping[str, Any]) -> str:
    return _encoded(json.dumps(content).encode())


def _encoded(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def _report(figures: Mapping[str, Mapping[str, Sequence[float]]], rounds: int, token_bytes: int) -> tuple[str, bool]:
    """Return the report, and whether a target is missed."""
    rows = []
    medians = {name: {figure: median(values) for figure, values in each.items()} for name, each in figures.items()}
    for figure, without in medians[WITHOUT].items():
        with_login = medians[WITH][figure]
        rows.append(f"| {figure} | {without:.3g} | {with_login:.3g} | {with_login - without:+.3g} |")
    added = medians[WITH]["p50 of a call, ms"] - medians[WITHOUT]["p50 of a call, ms"]
    rate = medians[WITH]["events/s"] / medians[WITHOUT]["events/s"]
    lines = (
        "# Results of `make bench-login`",
        "",
        *describe_machine(),
        "",
        f"Medians of {rounds} rounds, the two in turn; a token of {token_bytes} bytes. Calls are one after the other.",
        "",
        f"| figure | {WITHOUT} | {WITH} | difference |",
        "|---|---|---|---|",
        *rows,
        "",
        f"Login and roles add {added:.2f} ms to the median of a call; target: less than {_MOST_MILLISECONDS}.",
        f"The rate of events is {rate:.2f} of that without; target: at least {_LEAST_RATE}.",
        "",
    )
    return "\n".join(lines), added >= _MOST_MILLISECONDS or rate < _LEAST_RATE


if __name__ == "__main__":
    sys.exit(main())
