"""Rendering: files that fit together, clusters for every kind of address, and clear error messages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway import filters, limits
from gateway.__main__ import main
from gateway.bootstrap import Settings, bootstrap
from gateway.clusters import Address, AddressError, grpc_cluster, http_cluster
from gateway.descriptors import Form
from gateway.local_replies import CODES
from gateway.render import render
from gateway.routes import load

OWNERS = load().owners
UPSTREAMS = [f"--upstream={owner}=127.0.0.1:{8001 + number}" for number, owner in enumerate(OWNERS)]


def settings(**changes: Any) -> Settings:
    upstreams = {owner: [Address("127.0.0.1", 8001)] for owner in OWNERS}
    return Settings(listen=Address("127.0.0.1", 1), admin=Address("::1", 2), upstreams=upstreams, **changes)


def manager_of(config: Any) -> Any:
    (listener,) = config["static_resources"]["listeners"]
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def routes_of(config: Any) -> Any:
    return manager_of(config)["route_config"]["virtual_hosts"][0]["routes"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return yaml.safe_load(render(tmp_path_factory.mktemp("out") / "new", settings()).read_text())


def test_every_file_that_the_configuration_names_exists(config: Any) -> None:
    def files(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value[key] for key in ("filename", "proto_descriptor") if key in value]
            return own + [file for each in value.values() for file in files(each)]
        return [file for each in value for file in files(each)] if isinstance(value, list) else []

    named = set(files(config))
    assert len(named) == 7
    assert all(Path(file).is_absolute() and Path(file).stat().st_size for file in named)


def test_rendering_again_writes_the_same(tmp_path: Path) -> None:
    render(tmp_path, settings())
    first = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    render(tmp_path, settings())
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == first


def test_each_method_has_one_route_to_its_owner(config: Any) -> None:
    owners = {
        route["match"]["path"]: route["route"]["cluster"] for route in routes_of(config) if "/f" in str(route["match"])
    }
    assert owners == {f"/{method.name}": method.owner for method in load().methods}


def test_grpc_routes_come_first_and_enable_no_rest_filter(config: Any) -> None:
    grpc = [route for route in routes_of(config) if "content-type" in str(route["match"])]
    assert routes_of(config)[: len(grpc)] == grpc
    no_call, of_pages, *native = grpc
    assert "direct_response" in no_call
    assert "origin" in str(of_pages["match"])
    assert list(of_pages["typed_per_filter_config"]) == [filters.ORIGIN]
    assert not any("typed_per_filter_config" in route for route in native)
    filters_of_rest = [filters.ORIGIN, filters.OUTER, filters.TRANSCODER, filters.INNER]
    switched_off = [each["name"] for each in manager_of(config)["http_filters"] if each.get("disabled")]
    assert switched_off == filters_of_rest
    rest = [route for route in routes_of(config) if "typed_per_filter_config" in route and route not in grpc]
    assert len(rest) == 6
    assert all(list(route["typed_per_filter_config"]) == filters_of_rest for route in rest)


def test_streams_of_health_and_reflection_go_to_grpcio_and_are_unknown_without_it(tmp_path: Path, config: Any) -> None:
    def clusters_by_match(config: Any) -> dict[str, str]:
        native = [route for route in routes_of(config) if "content-type" in str(route["match"]) and "route" in route]
        return {next(iter(route["match"].values())): route["route"]["cluster"] for route in native[1:]}

    assert clusters_by_match(config)["/"] == load().unknown_methods
    assert clusters_by_match(config)["/grpc.health.v1.Health/Check"] == load().health
    assert "/grpc." not in clusters_by_match(config)
    with_grpcio = bootstrap(load(), tmp_path, settings(reflection=[Address("127.0.0.1", 9000)]))
    assert clusters_by_match(with_grpcio) == clusters_by_match(config) | {"/grpc.": "reflection"}


def test_objects_are_routed_only_when_there_is_a_store(tmp_path: Path, config: Any) -> None:
    assert "/objects/" not in str(routes_of(config))
    with_store = bootstrap(load(), tmp_path, settings(objects=[Address("127.0.0.1", 9000)]))
    (route,) = [route for route in routes_of(with_store) if route["match"].get("prefix") == "/objects/"]
    retries = route["route"].pop("retry_policy")
    assert route["route"] == {
        "cluster": "objects",
        "timeout": "0s",
        "idle_timeout": "60s",
        "max_stream_duration": {"max_stream_duration": "0s"},
    }
    assert list(route["typed_per_filter_config"]) == [filters.ORIGIN]
    assert retries["retry_on"] == "connect-failure,refused-stream,reset-before-request"


def test_cors_policy_and_script_allow_only_listed_origins(tmp_path: Path) -> None:
    host = manager_of(bootstrap(load(), tmp_path, settings()))["route_config"]["virtual_hosts"][0]
    assert host["typed_per_filter_config"] == {}
    origins = ["https://a.example", "http://b.example:8080"]
    host = manager_of(bootstrap(load(), tmp_path, settings(cors_origins=origins)))["route_config"]["virtual_hosts"][0]
    policy = host["typed_per_filter_config"][filters.CORS]
    assert policy["allow_origin_string_match"] == [{"exact": origin} for origin in origins]
    render(tmp_path, settings(cors_origins=origins, hosts=["c.example"]))
    script = (tmp_path / "origin.lua").read_text()
    assert 'ORIGINS = {["https://a.example"] = true, ["http://b.example:8080"] = true}' in script
    assert 'HOSTS = {["c.example"] = true}' in script


def test_access_log_is_optional(tmp_path: Path) -> None:
    assert manager_of(bootstrap(load(), tmp_path, settings()))["access_log"] == []
    assert len(manager_of(bootstrap(load(), tmp_path, settings(access_log=True)))["access_log"]) == 1


def test_idle_timeout_of_a_call_is_longer_than_its_time_limit(config: Any) -> None:
    for route in routes_of(config):
        action = route.get("route", {})
        if action.get("timeout", "0s") != "0s":
            limit, idle = (float(action[key].removesuffix("s")) for key in ("timeout", "idle_timeout"))
            assert limit < idle, route
            assert limit < float(limits.LONGEST_REQUEST.removesuffix("s")), route


@pytest.mark.parametrize("body", Form)
def test_size_limit_of_bodies_is_the_same_in_every_filter(tmp_path: Path, body: Form) -> None:
    largest = filters.largest_body(body, 1024)
    render(tmp_path, settings(max_message_bytes=1024))
    assert f"{body} = {largest}" in (tmp_path / "outer.lua").read_text()
    routes = routes_of(bootstrap(load(), tmp_path, settings(max_message_bytes=1024)))
    of_form = [route for route in routes if f"/{body}_" in str(route.get("typed_per_filter_config"))]
    assert of_form
    for route in of_form:
        assert route["request_body_buffer_limit"] == 1024
        assert route["typed_per_filter_config"][filters.TRANSCODER]["max_request_body_size"] == largest


@pytest.mark.parametrize(
    ("hosts", "dns", "checked"),
    [
        (["127.0.0.1"], False, False),
        (["::1"], False, False),
        (["127.0.0.1", "127.0.0.2"], False, True),
        (["registry.flyte.svc"], True, True),
        (["localhost"], True, True),
    ],
)
@pytest.mark.parametrize("make", [grpc_cluster, http_cluster])
def test_cluster_of_a_single_server_has_no_health_checks(
    make: Callable[[str, list[Address]], dict[str, Any]], hosts: list[str], dns: bool, checked: bool
) -> None:
    cluster = make("registry", [Address(host, 80) for host in hosts])
    assert ("cluster_type" in cluster) == dns
    assert (cluster.get("type") == "STATIC") != dns
    assert ("health_checks" in cluster) == ("outlier_detection" in cluster) == checked


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", Address("127.0.0.1", 80)),
        ("[::1]:80", Address("::1", 80)),
        ("registry.flyte.svc:80", Address("registry.flyte.svc", 80)),
        ("unix:/run/registry.sock", Address("/run/registry.sock", 0)),
    ],
)
def test_address_is_host_and_port_or_a_socket(text: str, address: Address) -> None:
    assert Address.parse(text) == address


def test_socket_is_a_fixed_address_without_a_network() -> None:
    cluster = grpc_cluster("registry", [Address.parse("unix:/run/registry.sock")])
    (endpoints,) = cluster["load_assignment"]["endpoints"]
    assert endpoints["lb_endpoints"] == [{"endpoint": {"address": {"pipe": {"path": "/run/registry.sock"}}}}]
    assert cluster["type"] == "STATIC"
    assert "upstream_connection_options" not in cluster


@pytest.mark.parametrize("text", ["", "80", ":80", "host", "host:", "host:port", "host:-1", "unix:", "unix:a.sock"])
def test_text_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError, match="is not host:port"):
        Address.parse(text)


def test_command_writes_the_configuration_and_prints_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = ["--reflection", "a:1", "--objects", "a:1,b:2"]
    main(["render", "--out", str(tmp_path), "--listen", "127.0.0.1:1", *others, *UPSTREAMS])
    config = yaml.safe_load(Path(capsys.readouterr().out.strip()).read_text())
    clusters = {cluster["name"]: cluster for cluster in config["static_resources"]["clusters"]}
    assert list(clusters) == [*OWNERS, "reflection", "objects"]
    (options,) = clusters["reflection"]["typed_extension_protocol_options"].values()
    assert list(options["explicit_http_config"]) == ["http2_protocol_options"]
    (options,) = clusters["objects"]["typed_extension_protocol_options"].values()
    assert list(options["explicit_http_config"]) == ["http_protocol_options"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (UPSTREAMS[1:], "--upstream is needed once for each of"),
        ([*UPSTREAMS, "--upstream=unknown=127.0.0.1:1"], "--upstream is needed once for each of"),
        ([*UPSTREAMS, "--upstream=registry=127.0.0.1:1"], "--upstream is needed once for each of"),
        ([*UPSTREAMS, "--upstream=registry"], "is not host:port"),
        ([*UPSTREAMS, "--tls-key=key.pem"], "--tls-chain and --tls-key are needed together"),
        ([*UPSTREAMS, "--listen=30080"], "'30080' is not host:port"),
        ([*UPSTREAMS, "--cors-origin=*"], "'*' is not http[s]://host[:port]"),
        ([*UPSTREAMS, "--cors-origin=https://a.example/"], "is not http[s]://host[:port]"),
        ([*UPSTREAMS, '--cors-origin=https://a"'], "is not http[s]://host[:port]"),
        ([*UPSTREAMS, "--host=a.example:80"], "'a.example:80' is not the name of a host"),
    ],
)
def test_wrong_command_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        main(["render", "--out", str(tmp_path), *arguments])
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_outer_lua_has_the_codes_of_local_replies(tmp_path: Path) -> None:
    render(tmp_path, settings())
    script = (tmp_path / "outer.lua").read_text()
    assert all(f'["{status}"] = {code},' in script for status, code in CODES.items())


def test_outer_lua_has_every_pattern(tmp_path: Path) -> None:
    render(tmp_path, settings())
    script = (tmp_path / "outer.lua").read_text()
    assert 'rest("PUT", "/api/v1/projects/*", true, { "id" })' in script
    assert script.count('\nrest("') == 69
