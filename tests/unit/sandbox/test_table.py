"""The process table fits together, and fits the services."""

import importlib
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from deploy.sandbox.client_config import client_config
from deploy.sandbox.layout import DATABASES, Layout
from deploy.sandbox.part import Part
from deploy.sandbox.table import PORTS, SERVICES, stack
from tests.support.parts import free_port


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Part]:
    layout = Layout(tmp_path / "sandbox")
    layout.prepare()
    return {part.name: part for part in stack(layout, layout.find_ports(free_port(), PORTS))}


def test_every_need_is_a_part_and_stands_before_it(parts: dict[str, Part]) -> None:
    seen: set[str] = set()
    for part in parts.values():
        assert set(part.needs) <= seen
        assert set(part.in_front_of) <= seen
        seen.add(part.name)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_gets_only_settings_that_it_knows(parts: dict[str, Part], name: str) -> None:
    known = importlib.import_module(f"services.{name}.config").Settings.model_fields
    assert {variable.removeprefix("FLYTEPLANE_").lower() for variable in parts[name].env} <= set(known)


@pytest.mark.parametrize("name", SERVICES)
def test_services_that_know_the_object_store_get_it(parts: dict[str, Part], name: str) -> None:
    known = importlib.import_module(f"services.{name}.config").Settings.model_fields
    for setting in ("objects_url", "public_url", "signing_key"):
        assert (setting in known) == (f"FLYTEPLANE_{setting.upper()}" in parts[name].env)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_logs_in_to_its_own_database_as_itself(parts: dict[str, Part], name: str) -> None:
    url = urlsplit(parts[name].env["FLYTEPLANE_DATABASE_URL"])
    assert (url.username, url.path) == (name, f"/{name}")
    assert Path(parse_qs(url.query)["host"][0]).is_absolute()


def test_there_is_a_database_per_service() -> None:
    assert set(DATABASES) == set(SERVICES)


def test_no_two_parts_get_the_same_address(parts: dict[str, Part]) -> None:
    addresses = [value for part in parts.values() for name, value in part.env.items() if name.endswith("_ADDRESS")]
    assert len(set(addresses)) == len(addresses) == 2 * len(SERVICES)


def test_client_config_is_what_flytekit_and_flytectl_read() -> None:
    admin = {"endpoint": "dns:///localhost:31080", "insecure": True, "authType": "Pkce"}
    assert yaml.safe_load(client_config(31080)) == {"admin": admin}
