"""A command runs in a fork only where that is the same as in a new process."""

from pathlib import Path

import pytest

from deploy.sandbox.engine.forking import warm

SERVER = {"PYTHONUNBUFFERED": "1", "FLYTE_SDK_LOGGING_LEVEL": "30", "HOME": "/root"}


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({}, True),
        ({"HOME": "/home"}, True),
        ({"MINE": "1"}, True),
        ({"PYTHONPATH": "/code"}, True),
        ({"PYTHONHASHSEED": "5"}, False),
        ({"LD_PRELOAD": "x.so"}, False),
        ({"FLYTE_SDK_LOGGING_LEVEL": "10"}, False),
        ({"_F_TE_MAX_COROS": "1"}, False),
    ],
)
def test_variables_that_are_read_at_import_must_be_those_of_the_server(changed: dict[str, str], same: bool) -> None:
    assert warm.same_at_import(SERVER, SERVER | changed) is same


def test_variable_that_the_task_lacks_counts_too() -> None:
    assert not warm.same_at_import(SERVER, {"HOME": "/root", "FLYTE_SDK_LOGGING_LEVEL": "30"})


@pytest.mark.parametrize(
    ("name", "shadows"), [("json.py", True), ("json", True), ("plums.py", False), ("x.txt", False)]
)
def test_module_of_the_user_that_has_the_name_of_an_imported_one_is_found(
    tmp_path: Path, name: str, shadows: bool
) -> None:
    (tmp_path / name).touch()
    assert warm._shadows([str(tmp_path)]) is shadows


def test_folder_that_is_not_there_shadows_nothing(tmp_path: Path) -> None:
    assert not warm._shadows([str(tmp_path / "gone")])


@pytest.mark.parametrize("command", [["sh", "-c", "true"], ["python", "-m", "x"]])
def test_other_commands_are_executed(command: list[str]) -> None:
    assert warm.run_warm(command, []) == command
