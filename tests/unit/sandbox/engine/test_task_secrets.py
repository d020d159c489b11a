"""Secrets reach tasks as files and variables, or are reported as missing."""

from pathlib import Path

import pytest
from flyteidl.core.security_pb2 import Secret

from deploy.sandbox.engine.tasks.secrets import SecretMissing, SecretStore


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    folder = tmp_path / "secrets"
    (folder / "db").mkdir(parents=True)
    (folder / "db" / "password").write_text("from a file\n")
    return SecretStore(folder, {"_FSEC_API_KEY": "from the environment"})


def test_secret_as_a_variable_has_flytekit_s_name(store: SecretStore, tmp_path: Path) -> None:
    secret = Secret(group="db", key="password", mount_requirement=Secret.ENV_VAR)
    assert store.provide([secret], tmp_path / "into") == {
        "_FSEC_DB_PASSWORD": "from a file",
        "FLYTE_SECRETS_DEFAULT_DIR": str(tmp_path / "into"),
        "FLYTE_SECRETS_ENV_PREFIX": "_FSEC_",
    }
    assert not (tmp_path / "into").exists()


def test_secret_as_a_file_is_where_flytekit_reads_it(store: SecretStore, tmp_path: Path) -> None:
    secret = Secret(group="API", key="Key", mount_requirement=Secret.FILE)
    provided = store.provide([secret], tmp_path / "into")
    assert (tmp_path / "into" / "api" / "key").read_text() == "from the environment"
    assert provided["FLYTE_SECRETS_DEFAULT_DIR"] == str(tmp_path / "into")
    assert "_FSEC_API_KEY" not in provided


def test_secret_with_a_variable_of_its_own_has_both(store: SecretStore, tmp_path: Path) -> None:
    secret = Secret(group="api", key="key", mount_requirement=Secret.ENV_VAR, env_var="PLUM")
    provided = store.provide([secret], tmp_path / "into")
    assert provided["PLUM"] == provided["_FSEC_API_KEY"] == "from the environment"


@pytest.mark.parametrize(
    "secret",
    [
        Secret(group="db", key="gone"),
        Secret(group="..", key="x"),
        Secret(group="g", key="x" * 300),
        Secret(group="db", group_version="2", key="password"),
        Secret(group="db", key="k" * 256),  # longer than a file's name
        Secret(group="db", key="a\0b"),
    ],
)
def test_missing_secret_is_named(store: SecretStore, tmp_path: Path, secret: Secret) -> None:
    with pytest.raises(SecretMissing, match=f"{secret.key} is not in this sandbox"):
        store.provide([secret], tmp_path / "into")


def test_task_without_secrets_gets_no_variables(store: SecretStore, tmp_path: Path) -> None:
    assert store.provide([], tmp_path / "into") == {}
