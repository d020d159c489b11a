"""The parts of the stack are consistent, and fits the services."""

import importlib
import json
from itertools import pairwise
from pathlib import Path
from socket import gethostname
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from deploy.sandbox.client_config import client_config
from deploy.sandbox.engine.settings import EngineSettings
from deploy.sandbox.errors import SandboxError
from deploy.sandbox.layout import SERVICES, Layout
from deploy.sandbox.part import Part
from deploy.sandbox.parts import REPLICATED, port_names, stack
from deploy.sandbox.settings_file import ChosenSettings
from tests.support.parts import free_port


def parts_in(folder: Path, chosen: ChosenSettings | None = None) -> dict[str, Part]:
    layout = Layout(folder)
    layout.prepare()
    return {
        part.name: part
        for part in stack(layout, layout.find_ports(free_port(), port_names()), chosen or ChosenSettings())
    }


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Part]:
    return parts_in(tmp_path / "sandbox")


@pytest.fixture
def replicated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Part]:
    monkeypatch.setenv("SANDBOX_REPLICAS", "2")
    return parts_in(tmp_path / "replicated")


def test_every_need_of_a_part_is_an_earlier_part(parts: dict[str, Part]) -> None:
    seen: set[str] = set()
    for part in parts.values():
        assert set(part.needs) <= seen
        assert set(part.stops_before) <= seen
        seen.add(part.name)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_gets_only_settings_that_it_has(parts: dict[str, Part], name: str) -> None:
    known = importlib.import_module(f"services.{name}.config").Settings.model_fields
    assert {variable.removeprefix("FLYTEPLANE_").lower() for variable in parts[name].env} <= set(known)


@pytest.mark.parametrize("name", SERVICES)
def test_services_with_settings_of_the_object_store_get_them(parts: dict[str, Part], name: str) -> None:
    known = importlib.import_module(f"services.{name}.config").Settings.model_fields
    for setting in ("objects_url", "public_url", "signing_key"):
        assert (setting in known) == (f"FLYTEPLANE_{setting.upper()}" in parts[name].env)


@pytest.mark.parametrize("name", ["registry", "executions"])
def test_tasks_may_request_any_resources(parts: dict[str, Part], name: str) -> None:
    limits = json.loads(parts[name].env["FLYTEPLANE_TASK_RESOURCE_LIMITS"])
    known = importlib.import_module(f"services.{name}.config").Settings
    assert type(known.model_fields["task_resource_limits"].default)(**limits).model_dump() == {
        "cpu": "0",
        "memory": "0",
        "gpu": "0",
        "ephemeral_storage": "",
    }


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_logs_in_to_its_own_database_as_itself(parts: dict[str, Part], name: str) -> None:
    url = urlsplit(parts[name].env["FLYTEPLANE_DATABASE_URL"])
    assert (url.username, url.path) == (name, f"/{name}")
    assert Path(parse_qs(url.query)["host"][0]).is_absolute()


def test_addresses_of_parts_are_all_different(parts: dict[str, Part]) -> None:
    addresses = [value for part in parts.values() for name, value in part.env.items() if name.endswith("_ADDRESS")]
    assert len(set(addresses)) == len(addresses) == 3 * len(SERVICES) + 1  # that of the engine


def test_engine_calls_the_others_so_it_stops_first(parts: dict[str, Part]) -> None:
    assert set(parts["engine"].stops_before) == {*SERVICES, "envoy"}
    assert parts["executions"].env["FLYTEPLANE_ENGINE"] == "requests"


def test_engine_gets_all_settings_that_it_has(parts: dict[str, Part], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in parts["engine"].env.items():
        monkeypatch.setenv(name, value)
    settings = EngineSettings()  # type: ignore[call-arg]  # its fields come from the environment
    given = {
        name.removeprefix("SANDBOX_ENGINE_").lower() for name in parts["engine"].env if name.startswith("SANDBOX_")
    }
    assert given == settings.model_fields_set


def test_sandbox_without_an_engine_has_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_ENGINE", "none")
    parts = parts_in(tmp_path / "without")
    assert "engine" not in parts
    assert parts["executions"].env["FLYTEPLANE_ENGINE"] == "none"


def test_executions_submits_to_clusters_without_the_local_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDBOX_ENGINE", "kubernetes")
    parts = parts_in(tmp_path / "clusters")
    assert "engine" not in parts
    assert parts["executions"].env["FLYTEPLANE_ENGINE"] == "kubernetes"
    assert "FLYTEPLANE_TASK_RESOURCE_DEFAULTS" not in parts["executions"].env


def test_unknown_engine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_ENGINE", "propeller")
    with pytest.raises(SandboxError, match="SANDBOX_ENGINE is 'propeller'; it can be local, kubernetes or none"):
        port_names()


@pytest.mark.parametrize("name", REPLICATED)
def test_replica_differs_from_the_first_in_its_addresses_only(replicated: dict[str, Part], name: str) -> None:
    first, second = replicated[name], replicated[f"{name}-2"]
    differing = {variable for variable in first.env if first.env[variable] != second.env[variable]}
    assert differing == {f"FLYTEPLANE_{listener}_ADDRESS" for listener in ("GRPC", "HTTP2", "HTTP")}
    assert first.env.keys() == second.env.keys()
    assert first.command == second.command


@pytest.mark.parametrize("name", REPLICATED)
def test_schema_is_migrated_once_and_before_the_second_replica(replicated: dict[str, Part], name: str) -> None:
    assert replicated[name].steps
    assert not replicated[f"{name}-2"].steps
    assert name in replicated[f"{name}-2"].needs


def test_gateway_gets_the_address_of_every_replica(replicated: dict[str, Part]) -> None:
    def addresses(name: str, setting: str) -> str:
        return ",".join(replicated[each].env[f"FLYTEPLANE_{setting}_ADDRESS"] for each in (name, f"{name}-2"))

    (render,) = replicated["envoy"].steps
    upstreams = dict(argument.split("=") for argument in render.command if "=" in argument)
    assert upstreams["events"] == addresses("events", "HTTP2")
    assert "," not in upstreams["projects"]
    assert dict(pairwise(render.command))["--reflection"] == addresses("registry", "GRPC")
    assert dict(pairwise(render.command))["--objects"] == addresses("executions", "HTTP")
    assert set(replicated["envoy"].stops_before) == {*SERVICES, *(f"{name}-2" for name in REPLICATED)}


@pytest.mark.parametrize("text", ["0", "-1", "two", "10"])
def test_number_of_replicas_out_of_range_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_REPLICAS", text)
    with pytest.raises(SandboxError, match=f"SANDBOX_REPLICAS is '{text}'"):
        port_names()


def test_client_config_has_the_keys_of_flytekit_and_flytectl() -> None:
    admin = {"endpoint": "dns:///localhost:31080", "insecure": True, "authType": "Pkce"}
    assert yaml.safe_load(client_config(31080)) == {"admin": admin}


def test_gateway_gets_the_origins_and_host_names_of_the_settings(tmp_path: Path, parts: dict[str, Part]) -> None:
    def values(option: str, of: dict[str, Part]) -> list[str]:
        command = of["envoy"].steps[0].command
        return [value for name, value in pairwise(command) if name == option]

    assert values("--cors-origin", parts) == []
    assert values("--host", parts) == ["localhost", gethostname().lower()]
    chosen = {"cors_origins": ["http://localhost:3000", "https://a.example"], "hosts": ["dev.example"]}
    other = parts_in(tmp_path / "other", ChosenSettings({"gateway": chosen}))
    assert values("--cors-origin", other) == ["http://localhost:3000", "https://a.example"]
    assert values("--host", other)[2:] == ["dev.example"]
