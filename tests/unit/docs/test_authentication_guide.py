"""The guide to authentication: its examples are accepted, and its table of providers has URLs that fit together."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from deploy.chart.values import ChartValues
from gateway import authentication
from gateway.bootstrap import Settings
from services.settings import checked
from tests.support.callers import SECRET
from tests.support.helm import merge

GUIDE = (Path(__file__).parents[3] / "docs" / "operating" / "authentication").with_suffix(".md")
TEXT = GUIDE.read_text()
PLACEHOLDERS = re.compile(r"[A-Z]{3,}")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def providers() -> list[tuple[str, str, str]]:
    """Return name, issuer and URL of the keys of each provider, with a name in place of each placeholder."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in TEXT.splitlines() if line.count(" | ") == 4]
    found = []
    for name, issuer, keys, *_ in rows[1:]:
        quoted = [re.search(r"`([^`]*)`", cell) for cell in (issuer, keys)]
        first, second = (match[1] if match else "" for match in quoted)
        first = first if "/" in first else "https://dex.example/dex"
        keys_url = second.replace("ISSUER", first)
        found.append((name, PLACEHOLDERS.sub("a.example", first), PLACEHOLDERS.sub("a.example", keys_url)))
    return found


def test_example_of_the_chart_is_accepted() -> None:
    (example, *_) = blocks("yaml")
    values = yaml.safe_load(example)
    assert set(values) == {"auth", "test"}
    ChartValues.model_validate(merge(ChartValues().model_dump(by_alias=True), values))


def test_example_of_the_sandbox_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTEPLANE_SIGNING_KEY", "key")
    monkeypatch.setenv("FLYTEPLANE_GATEWAY_SECRET", SECRET)
    (example,) = blocks("toml")
    settings, problems = checked(tomllib.loads(example))
    assert not problems
    assert settings["gateway"]["auth_issuer"] == settings["projects"]["auth_issuer"]


def test_table_has_the_usual_providers() -> None:
    assert [name for name, _, _ in providers()] == ["Keycloak", "Okta", "Entra ID", "Auth0", "Google", "Dex"]


@pytest.mark.parametrize(("name", "issuer", "keys"), providers(), ids=lambda text: text)
def test_gateway_accepts_the_urls_of_a_provider(name: str, issuer: str, keys: str) -> None:
    assert name
    login = Settings(auth_issuer=issuer, auth_audiences=["flyte"], auth_jwks_url=keys).login
    assert login is not None
    cluster = authentication.cluster(login)
    assert cluster["transport_socket"]["typed_config"]["sni"].count(".") >= 1
    assert "//" not in keys.removeprefix("https://")


@pytest.mark.parametrize("refusal", [authentication.OTHER_AUDIENCE, authentication.NO_KEYS])
def test_symptoms_have_the_texts_of_refusals(refusal: str) -> None:
    assert refusal in TEXT
