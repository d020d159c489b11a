"""Unknown or wrong settings stop the start with one line."""

from pathlib import Path

import pytest

from services.kit.process.settings import ObjectStoreSettings, ProcessSettings, load


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"FLYTEPLANE_NATZ_URL": "x"}, "unknown settings: FLYTEPLANE_NATZ_URL"),
        ({"FLYTEPLANE_GRPC_ADDRESS": "nowhere"}, "wrong settings: grpc_address: .*must be host:port"),
        ({"FLYTEPLANE_HTTP2_ADDRESS": ""}, "wrong settings: http2_address: .*must be host:port"),
        ({"FLYTEPLANE_DATABASE_POOL_SIZE": "many"}, "wrong settings: database_pool_size: .*integer"),
        ({"FLYTEPLANE_GATEWAY_SECRET": "too short"}, "wrong settings: gateway_secret: .*pattern.*"),
        ({"FLYTEPLANE_GATEWAY_SECRET": "with blanks in the text"}, "wrong settings: gateway_secret: .*pattern.*"),
        ({"FLYTEPLANE_SUBJECT_CLAIMS": " , "}, "wrong settings: subject_claims: .*at least 1 item.*"),
        ({"FLYTEPLANE_LOG_LEVEL": "loud"}, "wrong settings: log_level: .*"),
        ({"FLYTEPLANE_CONFIG": "/nowhere.yaml"}, "FLYTEPLANE_CONFIG names no file: /nowhere.yaml"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_one_line(
    environment: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=f"^{line}$"):
        load(ProcessSettings)


def test_the_environment_wins_over_the_file_and_the_file_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("log_level: debug\nnats_url: nats://file:4222\n")
    monkeypatch.setenv("FLYTEPLANE_CONFIG", str(file))
    monkeypatch.setenv("FLYTEPLANE_NATS_URL", "nats://environment:4222")
    settings = load(ProcessSettings)
    assert (settings.log_level, settings.nats_url) == ("debug", "nats://environment:4222")
    assert settings.database_pool_size == 10


def test_an_unknown_field_in_the_file_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("natz_url: x\n")
    monkeypatch.setenv("FLYTEPLANE_CONFIG", str(file))
    with pytest.raises(SystemExit, match=r"^wrong settings: natz_url: .*$"):
        load(ProcessSettings)


@pytest.mark.parametrize("text", ["a: [", "just text"])
def test_a_file_that_is_no_mapping_stops_the_start(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    monkeypatch.setenv("FLYTEPLANE_CONFIG", str(file))
    with pytest.raises(SystemExit, match=r"^wrong settings: .*$"):
        load(ProcessSettings)


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"OBJECTS_URL": "ftp://host/x"}, "objects_url: .*must be file:///folder, or s3://, .* and a bucket"),
        ({"OBJECTS_URL": "s3://"}, "objects_url: .*and a bucket"),
        ({"OBJECTS_BUCKETS": "s3://b"}, ": .*a file:// store has objects_url only"),
        ({"OBJECTS_URL": "s3://b", "OBJECTS_BUCKETS": "b2"}, "objects_buckets: .*b2 is not the URL of a bucket, .*"),
        ({"OBJECTS_URL": "s3://b", "OBJECTS_BUCKETS": "s3://a,gs://c"}, ": .*must be of the provider of objects_url"),
        ({"OBJECTS_URL": "s3://b", "OBJECTS_ENDPOINT": "minio:9000"}, "objects_endpoint: .*must be a URL of http.*"),
        ({"OBJECTS_URL": "gs://b", "OBJECTS_REGION": "eu"}, ": .*objects_region and objects_path_style are for .*"),
        ({"OBJECTS_URL": "gs://b", "OBJECTS_PATH_STYLE": "false"}, ": .*objects_path_style are for an s3:// store"),
        ({"OBJECTS_URL": "s3://b", "OBJECTS_AZURE_ACCOUNT": "a"}, ": .*objects_azure_account is for an abfs:// store"),
        ({"OBJECTS_URL": "abfs://c"}, ": .*objects_azure_account is needed for an abfs:// store"),
        ({"OBJECTS_URL": "s3://b", "OBJECTS_CA_FILE": "/nowhere.pem"}, "objects_ca_file: .*"),
    ],
)
def test_settings_of_another_kind_of_store_stop_the_start(
    environment: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"FLYTEPLANE_{name}", value)
    with pytest.raises(SystemExit, match=f"^wrong settings: {line}$"):
        load(ObjectStoreSettings)


@pytest.mark.parametrize(
    ("settings", "environment"),
    [
        ({"objects_url": "abfs://c", "objects_azure_account": "lake"}, {}),
        ({"objects_url": "abfss://c@lake.dfs.core.windows.net/flyte"}, {"AZURE_STORAGE_ACCOUNT_NAME": "sea"}),
        ({"objects_url": "az://c"}, {"AZURE_STORAGE_ACCOUNT_NAME": "lake"}),
    ],
)
def test_the_account_of_azure_is_in_the_url_a_setting_or_the_environment(
    settings: dict[str, str], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ObjectStoreSettings(**settings).bucket_access.account == "lake"  # type: ignore[arg-type]  # all are texts


def test_buckets_are_separated_by_commas_or_in_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buckets = ("s3://a", "s3://b/x?region=eu-west-1")
    monkeypatch.setenv("FLYTEPLANE_OBJECTS_URL", "s3://own")
    monkeypatch.setenv("FLYTEPLANE_OBJECTS_BUCKETS", ", ".join(buckets))
    assert load(ObjectStoreSettings).objects_buckets == buckets
    monkeypatch.delenv("FLYTEPLANE_OBJECTS_BUCKETS")
    file = tmp_path / "settings.yaml"
    file.write_text("".join(("objects_buckets:\n", *(f"- {bucket}\n" for bucket in buckets))))
    monkeypatch.setenv("FLYTEPLANE_CONFIG", str(file))
    assert load(ObjectStoreSettings).objects_buckets == buckets
