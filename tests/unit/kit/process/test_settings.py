"""Unknown or wrong settings stop the start with one line."""

from pathlib import Path

import pytest

from services.kit.process.settings import ProcessSettings, load


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"FLYTEPLANE_NATZ_URL": "x"}, "unknown settings: FLYTEPLANE_NATZ_URL"),
        ({"FLYTEPLANE_GRPC_ADDRESS": "nowhere"}, "wrong settings: grpc_address: .*must be host:port"),
        ({"FLYTEPLANE_HTTP2_ADDRESS": ""}, "wrong settings: http2_address: .*must be host:port"),
        ({"FLYTEPLANE_DATABASE_POOL_SIZE": "many"}, "wrong settings: database_pool_size: .*integer"),
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
