"""The routing table: read from routes.toml, and refused when it does not fit the installed flyteidl."""

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway import descriptors

TABLE = Path(__file__).with_name("routes.toml")

KINDS = {"reads": "read", "writes": "write"}
TIMEOUT = "timeout"  # the one entry of an owner that is no service


class RoutesError(ValueError):
    """The table is wrong; the message names every wrong method or entry, one a line."""


@dataclass(frozen=True)
class Retry:
    """The retry policy of a kind of methods. Times are Envoy durations, such as "0.1s"."""

    on: tuple[str, ...]
    tries: int
    first_pause: str
    longest_pause: str


@dataclass(frozen=True)
class Method:
    """One method and its owner."""

    name: str  # package.Service/Method
    owner: str
    kind: str  # "read" or "write": a key of Routes.retries


@dataclass(frozen=True)
class Routes:
    """The whole table."""

    methods: tuple[Method, ...]
    timeouts: Mapping[str, str]  # owner > Envoy duration
    retries: Mapping[str, Retry]  # kind of method
    unknown_methods: str
    health: str
    objects_prefix: str

    @property
    def owners(self) -> tuple[str, ...]:
        """Return the names of the services behind the gateway."""
        return tuple(self.timeouts)


def load(text: str | None = None) -> Routes:
    """Return the table that `text` contains, or routes.toml.

    Raises:
        RoutesError: a method is missing, named twice or unknown to flyteidl, or an owner does not exist.
    """
    table = tomllib.loads(TABLE.read_text() if text is None else text)
    routes = Routes(
        methods=tuple(_methods(table["owners"])),
        timeouts={owner: entry[TIMEOUT] for owner, entry in table["owners"].items()},
        retries={kind: Retry(**{**entry, "on": tuple(entry["on"])}) for kind, entry in table["retries"].items()},
        unknown_methods=table["unknown_methods"],
        health=table["health"],
        objects_prefix=table["objects_prefix"],
    )
    if faults := _faults(routes):
        raise RoutesError("\n".join(faults))
    return routes


def _methods(owners: Mapping[str, Mapping[str, Any]]) -> Iterable[Method]:
    for owner, entry in owners.items():
        for service, lists in entry.items():
            if service == TIMEOUT:
                continue
            for key, kind in KINDS.items():
                for method in lists[key]:
                    yield Method(f"{service}/{method}", owner, kind)


def _faults(routes: Routes) -> list[str]:
    existing = descriptors.methods()
    named = Counter(method.name for method in routes.methods)
    return [
        *(f"{name}: no owner" for name in sorted(existing - named.keys())),
        *(f"{name}: not a method of flyteidl" for name in sorted(named.keys() - existing)),
        *(f"{name}: named {times} times" for name, times in sorted(named.items()) if times > 1),
        *(
            f"{key}: no owner is called {owner}"
            for key, owner in (
                ("unknown_methods", routes.unknown_methods),
                ("health", routes.health),
            )
            if owner not in routes.timeouts
        ),
    ]
