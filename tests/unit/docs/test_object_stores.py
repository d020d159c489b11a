"""The page on object stores: every example is a valid configuration, and opens a store of its provider."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from obstore.store import AzureStore, GCSStore, S3Store

from services.executions.config import Settings
from services.kit.objects.providers import open_bucket

PAGE = Path(__file__).parents[3].joinpath("docs", "object-stores").with_suffix(".md")
EXAMPLES: dict[str, dict[str, Any]] = {
    name: yaml.safe_load(text)
    for name, text in re.findall(r"<!-- example: (\S+) -->\n```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
}
STORES = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}


def test_the_page_has_an_example_of_each_provider() -> None:
    assert {name.partition("-")[0] for name in EXAMPLES} == set(STORES)
    assert PAGE.read_text().count("```yaml") == len(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_valid(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    example = EXAMPLES[name]
    for variable, value in example["environment"].items():
        assert variable.startswith(("AWS_", "GOOGLE_", "AZURE_"))
        monkeypatch.setenv(variable, value)
    if name == "gs":  # its key is read when the store is opened
        key = tmp_path / "key.json"
        key.write_text('{"private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": true}')
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(key))
    if name == "az":
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    settings = Settings(**example["settings"])
    access = settings.bucket_access
    assert len(access.allowed) == len(example["settings"].get("objects_buckets", ()))
    store = open_bucket(access, access.located(settings.objects_url))
    assert isinstance(store, STORES[name.partition("-")[0]])
