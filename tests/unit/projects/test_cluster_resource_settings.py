"""Settings of cluster resources: where values come from, and what stops the start."""

import json
from pathlib import Path

import pytest

from services.kit.process.settings import load
from services.projects.config import Settings, TemplateValue


def test_values_are_texts_variables_or_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    values = {"cpu": "4", "role": {"env": "ROLE"}, "secret": {"file": str(secret)}}
    monkeypatch.setenv("FLYTEPLANE_CLUSTER_RESOURCE_VALUES", json.dumps(values))
    monkeypatch.setenv("FLYTEPLANE_CLUSTER_RESOURCE_DOMAIN_VALUES", json.dumps({"production": {"cpu": "5"}}))
    monkeypatch.setenv("FLYTEPLANE_CLUSTER_RESOURCE_TEMPLATES", str(tmp_path))
    settings = load(Settings)
    assert settings.cluster_resource_templates == tmp_path
    assert settings.cluster_resource_values == {
        "cpu": TemplateValue(value="4"),
        "role": TemplateValue(env="ROLE"),
        "secret": TemplateValue(file=secret),
    }
    assert settings.cluster_resource_domain_values == {"production": {"cpu": TemplateValue(value="5")}}


def test_values_are_not_printed() -> None:
    assert "hidden" not in repr(Settings(cluster_resource_values={"password": TemplateValue(value="hidden")}))


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("VALUES", {"project": "x"}, "project: these values are those of the project-domain"),
        ("DOMAIN_VALUES", {"staging": {"namespace": "x"}}, "namespace: these values are those of the project-domain"),
        ("DOMAIN_VALUES", {"nowhere": {"cpu": "1"}}, "unknown domains: nowhere"),
        ("VALUES", {"cpu": {}}, "a value is a text, or has one of env and file"),
        ("VALUES", {"cpu": {"env": "A", "value": "b"}}, "a value is a text, or has one of env and file"),
        ("VALUES", {"cpu": {"file": "/nowhere"}}, "Path does not point to a file"),
        ("TEMPLATES", "/nowhere", "Path does not point to a directory"),
    ],
)
def test_wrong_settings_stop_the_start(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: object, message: str
) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    monkeypatch.setenv(f"FLYTEPLANE_CLUSTER_RESOURCE_{variable}", text)
    with pytest.raises(SystemExit, match=message):
        load(Settings)
