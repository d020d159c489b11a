"""Which of a service's fronts a method takes: what routes.toml chooses, as far as the gateway was told of it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway import filters, routes
from gateway.__main__ import main
from gateway.bootstrap import Settings, bootstrap
from gateway.clusters import Address
from gateway.routes import Front

TABLE = routes.TABLE.read_text()
ADMIN = "flyteidl.service.AdminService"
OWNERS = routes.load().owners
UPSTREAMS = [f"--upstream={owner}=127.0.0.1:{8001 + number}" for number, owner in enumerate(OWNERS)]
CLUSTERS = {"lean": "registry_lean", "bridge": "registry_bridge", "grpc": "registry"}
REGISTRY = 'of nodes\nfront = "lean"\n\n[owners.registry."flyteidl.service.AdminService"]\n'
assert REGISTRY in TABLE


def table(front: str, of_methods: str = "") -> str:
    """routes.toml with another front for registry, or for some of its methods."""
    return TABLE.replace(REGISTRY, REGISTRY.replace("lean", front) + of_methods)


def all_routes(config: Any) -> list[dict[str, Any]]:
    (listener,) = config["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    found: list[dict[str, Any]] = manager["route_config"]["virtual_hosts"][0]["routes"]
    return found


def routes_to(config: Any, method: str) -> list[dict[str, Any]]:
    return [route for route in all_routes(config) if route["match"].get("path") == f"/{ADMIN}/{method}"]


def names_of_clusters(config: Any) -> list[str]:
    return [cluster["name"] for cluster in config["static_resources"]["clusters"]]


@pytest.mark.parametrize(
    ("told", "chosen", "used"),
    [
        ([], "lean", ["grpc"]),
        ([], "bridge", ["grpc"]),
        ([], "grpc", ["grpc"]),
        (["bridge"], "lean", ["bridge", "grpc"]),
        (["bridge"], "bridge", ["bridge", "grpc"]),
        (["lean"], "lean", ["lean"]),
        (["lean"], "bridge", ["grpc"]),
        (["lean", "bridge"], "lean", ["lean"]),
        (["lean", "bridge"], "bridge", ["bridge", "grpc"]),
        (["lean", "bridge"], "grpc", ["grpc"]),
    ],
)
def test_a_method_takes_its_front_or_the_next_one_that_its_owner_has(
    tmp_path: Path, told: list[str], chosen: str, used: list[str]
) -> None:
    upstreams = {owner: [Address("127.0.0.1", 8001)] for owner in OWNERS}
    fronts = {Front(front): {"registry": [Address("127.0.0.1", 8100)]} for front in told}
    settings = Settings(upstreams=upstreams, fronts=fronts)
    config = bootstrap(routes.load(table(chosen)), tmp_path, settings)
    taken = routes_to(config, "GetTask")
    assert [route["route"]["cluster"] for route in taken] == [CLUSTERS[front] for front in used]
    # Only native calls take the bridge, and only its route switches a filter on.
    for route, front in zip(taken, used, strict=True):
        assert ("dynamic_metadata" in route["match"]) == (front == "bridge")
        assert list(route.get("typed_per_filter_config", ())) == ([filters.BRIDGE] if front == "bridge" else [])
    # Of events' other fronts nothing was told.
    assert [route["route"]["cluster"] for route in routes_to(config, "CreateNodeEvent")] == ["events"]
    assert names_of_clusters(config) == [*OWNERS, *(CLUSTERS[front] for front in told)]


@pytest.mark.parametrize(
    ("told", "health", "reflection", "unknown"),
    [
        ([], "registry", "registry", "registry"),
        (["bridge"], "registry", "registry", "registry"),
        (["lean", "bridge"], "registry_lean", "registry", "registry_lean"),
    ],
)
def test_what_may_be_no_message_goes_where_it_is_answered(
    tmp_path: Path, told: list[str], health: str, reflection: str, unknown: str
) -> None:
    upstreams = {owner: [Address("127.0.0.1", 8001)] for owner in OWNERS}
    fronts = {Front(front): {"registry": [Address("127.0.0.1", 8100)]} for front in told}
    config = bootstrap(routes.load(), tmp_path, Settings(upstreams=upstreams, fronts=fronts))
    taken = {
        next(iter(route["match"].values())): route["route"]["cluster"]
        for route in all_routes(config)
        if "content-type" in str(route["match"]) and "origin" not in str(route["match"]) and "route" in route
    }
    assert [taken["/grpc.health.v1.Health/Check"], taken["/grpc."], taken["/"]] == [health, reflection, unknown]


def test_a_single_method_can_have_another_front() -> None:
    loaded = routes.load(table("lean", 'fronts = { GetTask = "grpc" }\n'))
    fronts = {method.name: method.front for method in loaded.methods if method.owner == "registry"}
    assert fronts.pop(f"{ADMIN}/GetTask") == "grpc"
    assert set(fronts.values()) == {"lean"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (table("fast"), f"{ADMIN}/GetTask: no front is called fast"),
        (table("lean", 'fronts = { GetTask = "fast" }\n'), f"{ADMIN}/GetTask: no front is called fast"),
        (
            table("lean", 'fronts = { MakeCoffee = "grpc" }\n'),
            "MakeCoffee: has a front and is not in the table",
        ),
    ],
)
def test_a_front_that_does_not_fit_is_refused_by_name(text: str, complaint: str) -> None:
    with pytest.raises(routes.RoutesError, match=complaint):
        routes.load(text)


def test_the_command_is_told_of_fronts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lean = ["--lean=registry=unix:/run/registry.lean", "--lean=events=a:1,b:2"]
    main(["render", "--out", str(tmp_path), *UPSTREAMS, *lean, "--bridge=registry=unix:/run/registry.bridge"])
    config = yaml.safe_load(Path(capsys.readouterr().out.strip()).read_text())
    assert names_of_clusters(config) == [*OWNERS, "registry_lean", "events_lean", "registry_bridge"]
    registry, events, bridge = config["static_resources"]["clusters"][-3:]
    (options,) = registry["typed_extension_protocol_options"].values()
    assert list(options["explicit_http_config"]) == ["http2_protocol_options"]
    (options,) = bridge["typed_extension_protocol_options"].values()
    assert list(options["explicit_http_config"]) == ["http_protocol_options"]
    assert events["health_checks"][0]["grpc_health_check"] == {}
    assert "health_checks" not in registry
    assert routes_to(config, "GetTask")[0]["route"]["cluster"] == "registry_lean"
    assert routes_to(config, "CreateNodeEvent")[0]["route"]["cluster"] == "events_lean"


@pytest.mark.parametrize("front", ["lean", "bridge"])
@pytest.mark.parametrize("wrong", [["registry=a:1", "registry=b:1"], ["nobody=a:1"], ["registry"]])
def test_a_front_is_told_once_of_an_owner_that_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], front: str, wrong: list[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["render", "--out", str(tmp_path), *UPSTREAMS, *(f"--{front}={each}" for each in wrong)])
    assert f"--{front}" in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())
