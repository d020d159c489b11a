"""A sandbox's file of settings: its settings reach the parts, and wrong ones are refused before anything starts."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.sandbox import settings_file
from deploy.sandbox.errors import SandboxError
from deploy.sandbox.layout import REPOSITORY, SERVICES, Layout
from deploy.sandbox.part import Part
from deploy.sandbox.parts import port_names, stack
from deploy.sandbox.settings_file import DECIDED, SHARED, ChosenSettings
from services.settings import PROCESSES, checked
from tests.support.parts import free_port

CREDENTIALS = {"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "...", "AWS_SECRET_ACCESS_KEY": "..."}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "sandbox")
    made.prepare()
    return made


def parts_of(layout: Layout, chosen: ChosenSettings) -> dict[str, Part]:
    ports = layout.find_ports(free_port(), port_names())
    return {part.name: part for part in stack(layout, ports, chosen)}


def test_example_of_the_settings_page_reaches_the_parts(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", (REPOSITORY / "docs/settings.md").read_text(), re.DOTALL)
    file = layout.root / "example.toml"
    file.write_text(example)
    monkeypatch.setenv("SANDBOX_SETTINGS", str(file))
    parts = parts_of(layout, settings_file.read(layout))
    for name in SERVICES:
        env = parts[name].env
        given = yaml.safe_load(parts[name].files[Path(env["FLYTEPLANE_CONFIG"])])
        stores = "objects_url" in PROCESSES[name].model_fields
        assert ("domains" in given) == (name == "projects")
        assert given.get("objects_url") == ("s3://my-bucket/flyte" if stores else None)
        assert "FLYTEPLANE_OBJECTS_URL" not in env  # which would have priority over the file
        assert {key: env[key] for key in CREDENTIALS if key in env} == (CREDENTIALS if stores else {})
        assert all(key in parts[name].files[layout.environments / f"{name}.env"] for key in env)
    assert "--cors-origin http://localhost:3000" in " ".join(parts["envoy"].steps[0].command)


def test_size_of_messages_and_the_access_log_reach_the_gateway(layout: Layout) -> None:
    chosen = ChosenSettings({"gateway": {"max_message_bytes": 8388608.0, "access_log": True}})
    command = " ".join(parts_of(layout, chosen)["envoy"].steps[0].command)
    assert "--max-message-bytes 8388608 --access-log" in command


def test_sandbox_without_a_file_has_no_settings(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SANDBOX_SETTINGS", raising=False)
    assert settings_file.read(layout) == ChosenSettings()
    assert "FLYTEPLANE_CONFIG" not in parts_of(layout, ChosenSettings())["registry"].env


def test_folder_with_nothing_but_settings_becomes_a_private_sandbox(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "new")
    layout.root.mkdir(mode=0o755)
    layout.settings.write_text("")
    layout.prepare()
    assert layout.root.stat().st_mode & 0o077 == 0
    assert settings_file.read(layout).of("gateway") == {}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("domains = [", "settings.toml is not TOML: "),
        ('database_url = "x"', "database_url: cannot be set: the sandbox runs PostgreSQL itself"),
        ('[events]\ngrpc_address = "x"', "events.grpc_address: cannot be set: the sandbox connects its own processes"),
        ('[gateway]\nlisten = "a:1"', "gateway.listen: cannot be set: the variable PORT is the gateway's port"),
        ('[events]\nobjects_url = "s3://b"', "events.objects_url: several processes need the same: write it above all"),
        ('[environment]\nPATH = "x"', r"environment.PATH: only variables of object stores can be set: AWS_\*, GOOGLE_"),
        ("[environment]\nAWS_REGION = 5", "environment.AWS_REGION: must be a text in quotes"),
        ("labels = {tls = 1}", "labels.tls: Input should be a valid string"),  # no setting of the gateway
        ('environment = "x"', r"environment: must be a table: \[environment\]"),
    ],
)
def test_wrong_file_is_refused_with_its_name_the_key_and_the_reason(layout: Layout, text: str, line: str) -> None:
    layout.settings.write_text(text)
    with pytest.raises(SandboxError, match=line) as refused:
        settings_file.read(layout)
    assert str(layout.settings) in str(refused.value)


def test_settings_are_checked_with_the_variables_of_the_object_store(layout: Layout) -> None:
    layout.settings.write_text('objects_url = "abfs://c"\n[environment]\nAZURE_STORAGE_ACCOUNT_NAME = "lake"')
    assert settings_file.read(layout).of("registry") == {"objects_url": "abfs://c"}


def test_file_that_is_named_must_exist(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_SETTINGS", "/nowhere.toml")
    with pytest.raises(SandboxError, match=r"^/nowhere\.toml cannot be read: No such file"):
        settings_file.read(layout)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("domainz = []", ["domainz: there is no such setting; did you mean domains?"]),
        ("x = 1", ["x: there is no such setting; docs/settings.md lists all"]),
        (
            "[registri]",
            [f"registri: there is no such setting or table; the tables are {', '.join(PROCESSES)} and environment"],
        ),
        ("registry = 1", ["registry: must be a table"]),
        ('[registry]\ndomains = ["a"]', ["registry.domains: it is a setting of projects"]),
        ("domains = 5", ["domains: must be an array"]),
        ('[gateway]\nhosts = "a"', ["gateway.hosts: must be an array"]),
        ('[gateway]\ncors_origins = ["*"]', ["gateway.cors_origins.0: '*' is not http[s]://host[:port]"]),
        ('[gateway]\naccess_log = "false"', ["gateway.access_log: Input should be a valid boolean"]),
        ("max_message_bytes = 1", ["max_message_bytes: Input should be greater than or equal to 1024"]),
        ("[executions]\nlabels = 1", ["executions.labels: must be a table"]),
    ],
)
def test_problem_names_the_key_and_what_is_allowed(
    text: str, problems: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYTEPLANE_SIGNING_KEY", "key")
    assert checked(tomllib.loads(text))[1] == problems


def test_setting_of_a_process_replaces_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTEPLANE_SIGNING_KEY", "key")
    settings_of, problems = checked({"log_level": "info", "events": {"log_level": "debug"}})
    expected: dict[str, dict[str, Any]] = {name: {"log_level": "info"} for name in SERVICES}
    assert (settings_of, problems) == ({**expected, "events": {"log_level": "debug"}, "gateway": {}}, [])


def test_settings_with_rules_of_the_sandbox_exist(layout: Layout) -> None:
    known = {name for model in PROCESSES.values() for name in model.model_fields}
    assert {*DECIDED, *SHARED} <= known
    given = {name for part in parts_of(layout, ChosenSettings()).values() for name in part.env}
    given = {name.removeprefix("FLYTEPLANE_").lower() for name in given if name.startswith("FLYTEPLANE_")}
    assert given - DECIDED.keys() == {"objects_url", "public_url", "task_resource_defaults", "task_resource_limits"}


def test_login_reaches_the_gateway_the_services_and_the_engine(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_ENGINE", "local")
    text = """
        auth_issuer = "https://login.example"
        subject_claims = ["oid", "sub"]
        [gateway]
        auth_audiences = ["a", "b"]
        auth_jwks_url = "https://login.example/keys"
        [projects]
        auth_client_id = "cli"
    """
    layout.settings.write_text(text)
    parts = parts_of(layout, settings_file.read(layout))
    secrets = layout.secrets()
    for name in SERVICES:
        assert parts[name].env["FLYTEPLANE_GATEWAY_SECRET"] == secrets.gateway_secret
        given = yaml.safe_load(parts[name].files[Path(parts[name].env["FLYTEPLANE_CONFIG"])])
        assert given["subject_claims"] == ["oid", "sub"]
    envoy = parts["envoy"]
    command = " ".join(envoy.steps[0].command)
    assert "--auth-issuer https://login.example --auth-jwks-url https://login.example/keys" in command
    assert "--auth-audience a --auth-audience b" in command
    assert envoy.files == {layout.gateway_secret: secrets.gateway_secret, layout.engine_key: secrets.engine_key}
    assert not {secrets.gateway_secret, secrets.engine_key} & set(envoy.steps[0].command)  # others can see commands
    assert parts["engine"].env["SANDBOX_ENGINE_TOKEN_KEY"] == secrets.engine_key


def test_without_login_there_are_no_secrets_for_it(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_ENGINE", "local")
    parts = parts_of(layout, ChosenSettings())
    assert not any("FLYTEPLANE_GATEWAY_SECRET" in part.env for part in parts.values())
    assert "SANDBOX_ENGINE_TOKEN_KEY" not in parts["engine"].env
    assert not parts["envoy"].files
    assert "secret" not in " ".join(parts["envoy"].steps[0].command)
