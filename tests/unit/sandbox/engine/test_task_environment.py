"""The environment of tasks: what of the machine they get, and what flytepropeller would set."""

from pathlib import Path

import pytest
from flyteidl.core.identifier_pb2 import Identifier, WorkflowExecutionIdentifier

from deploy.sandbox.engine.graph.interface import ArrayItem, TaskKey
from deploy.sandbox.engine.tasks.environment import (
    Machine,
    NotExecutable,
    array_variables,
    check_executable,
    propeller_variables,
)


def variables(**environment: str) -> dict[str, str]:
    return Machine(Path("/env/bin/python"), "localhost:1", Path("/sandbox/config.yaml"), environment).variables()


def test_tasks_find_their_python_first_and_the_sandbox() -> None:
    found = variables(PATH="/usr/bin")
    assert found["PATH"] == "/env/bin:/usr/bin"
    assert (found["FLYTE_PLATFORM_URL"], found["FLYTECTL_CONFIG"]) == ("localhost:1", "/sandbox/config.yaml")


@pytest.mark.parametrize("name", ["HOME", "https_proxy", "AWS_SECRET_ACCESS_KEY", "FLYTE_AWS_REGION", "TZ"])
def test_tasks_get_what_they_need_of_the_machine(name: str) -> None:
    assert variables(**{name: "x"})[name] == "x"


@pytest.mark.parametrize(
    "name", ["PYTHONPATH", "VIRTUAL_ENV", "SANDBOX_ENGINE_NATS_URL", "_FSEC_DB_PASSWORD", "SSH_AUTH_SOCK", "PGPASSWORD"]
)
def test_tasks_get_nothing_else_of_the_machine(name: str) -> None:
    assert name not in variables(**{name: "x"})


def test_endpoint_of_an_s3_store_has_flytekit_s_name_too() -> None:
    assert variables(AWS_ENDPOINT="http://here")["FLYTE_AWS_ENDPOINT"] == "http://here"
    assert variables(AWS_ENDPOINT="http://here", FLYTE_AWS_ENDPOINT="http://there")["FLYTE_AWS_ENDPOINT"] == (
        "http://there"
    )


def test_variables_of_flytepropeller_name_execution_task_and_attempt() -> None:
    execution = WorkflowExecutionIdentifier(project="p", domain="d", name="e")
    workflow, task = (Identifier(project="wp", domain="wd", name=name, version="v") for name in ("w", "t"))
    assert propeller_variables(execution, workflow, task, TaskKey("n0", 2)) == {
        "FLYTE_INTERNAL_EXECUTION_WORKFLOW": "wp:wd:w",
        "FLYTE_INTERNAL_EXECUTION_ID": "e",
        "FLYTE_INTERNAL_EXECUTION_PROJECT": "p",
        "FLYTE_INTERNAL_EXECUTION_DOMAIN": "d",
        "FLYTE_ATTEMPT_NUMBER": "2",
        "FLYTE_INTERNAL_TASK_PROJECT": "wp",
        "FLYTE_INTERNAL_TASK_DOMAIN": "wd",
        "FLYTE_INTERNAL_TASK_NAME": "t",
        "FLYTE_INTERNAL_TASK_VERSION": "v",
        "FLYTE_INTERNAL_PROJECT": "wp",
        "FLYTE_INTERNAL_DOMAIN": "wd",
        "FLYTE_INTERNAL_NAME": "t",
        "FLYTE_INTERNAL_VERSION": "v",
    }


def test_item_of_an_array_finds_its_index_by_the_name_of_a_variable() -> None:
    found = array_variables(ArrayItem(3, 10))
    assert found[found["BATCH_JOB_ARRAY_INDEX_VAR_NAME"]] == "3"
    assert array_variables(None) == {}


@pytest.mark.parametrize(
    ("command", "env", "reason"),
    [
        (["true"], {"a=b": "x"}, "'a=b' cannot be the name of an environment variable"),
        (["true"], {"": "x"}, "'' cannot be the name of an environment variable"),
        (["true"], {"A\0": "x"}, r"'A\\x00' cannot be the name of an environment variable"),
        (["true"], {"A": "x", "B": "\0"}, "the value of the environment variable 'B' has a NUL character"),
        (["echo", "a\0"], {}, "word 2 of the command has a NUL character"),
    ],
)
def test_command_and_environment_that_no_process_can_have_are_refused(
    command: list[str], env: dict[str, str], reason: str
) -> None:
    with pytest.raises(NotExecutable, match=reason):
        check_executable(command, env)


@pytest.mark.parametrize("name", ["lower.case", "with blank", "1", "ü", "-"])
def test_other_names_of_variables_pass(name: str) -> None:
    check_executable(["env"], {name: "a=b\n"})
