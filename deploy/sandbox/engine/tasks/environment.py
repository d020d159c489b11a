"""The environment of tasks: this machine's, flytepropeller's variables, the container's, and the execution's.

A later one of these replaces an earlier one, as in a pod.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flyteidl.core.identifier_pb2 import Identifier, WorkflowExecutionIdentifier

from deploy.sandbox.engine.graph.interface import ArrayItem, TaskKey

# Of the environment of `make up` tasks get these; a container would get none.
_OF_THE_MACHINE = ("HOME", "USER", "LOGNAME", "SHELL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_CREDENTIALS = ("AWS_", "GOOGLE_", "AZURE_", "FLYTE_AWS_", "FLYTE_GCP_", "FLYTE_AZURE_")
# The endpoint of an S3 store, as the services' client and as flytekit read it; credentials have the same names.
_S3_ENDPOINT, _FLYTEKIT_S3_ENDPOINT = "AWS_ENDPOINT", "FLYTE_AWS_ENDPOINT"
# The name of the variable that has the index of an item of an array node, which is in a variable itself.
_INDEX_NAME = "BATCH_JOB_ARRAY_INDEX_VAR_NAME"
_INDEX = "FLYTE_K8S_ARRAY_INDEX"
# Processes of a run have it, so that they can be found by it.
MARK = "FLYTEPLANE_ATTEMPT"


class NotExecutable(Exception):
    """A command or an environment that no process can have; Kubernetes or its nodes refuse such a pod."""


@dataclass(frozen=True)
class Machine:
    """What is the same for all tasks of a sandbox."""

    python: Path
    """The Python of tasks; its folder is the first of PATH."""
    gateway: str
    """host:port."""
    client_config: Path
    """The configuration file of flytekit."""
    environment: Mapping[str, str]
    """That of this process."""

    def variables(self) -> dict[str, str]:
        """Return the variables that every task has, and the fork server, before those of an attempt."""
        kept = {
            name: value
            for name, value in self.environment.items()
            if name in _OF_THE_MACHINE or name in _PROXIES or name.startswith(_CREDENTIALS)
        }
        if (endpoint := kept.get(_S3_ENDPOINT)) is not None:
            kept.setdefault(_FLYTEKIT_S3_ENDPOINT, endpoint)
        return {
            "LANG": "C.UTF-8",
            **kept,
            "PATH": os.pathsep.join((str(self.python.parent), self.environment.get("PATH", os.defpath))),
            # The log shows what a task prints at once.
            "PYTHONUNBUFFERED": "1",
            "FLYTE_SDK_LOGGING_LEVEL": "30",
            "FLYTECTL_CONFIG": str(self.client_config),
            "FLYTE_PLATFORM_URL": self.gateway,
            "FLYTE_PLATFORM_INSECURE": "true",
            "FLYTE_INTERNAL_EXECUTION_ID": "none",
        }


def propeller_variables(
    execution: WorkflowExecutionIdentifier, workflow: Identifier, task: Identifier, key: TaskKey
) -> dict[str, str]:
    """Return the variables by which flytekit finds out what runs."""
    return {
        "FLYTE_INTERNAL_EXECUTION_WORKFLOW": f"{workflow.project}:{workflow.domain}:{workflow.name}",
        "FLYTE_INTERNAL_EXECUTION_ID": execution.name,
        "FLYTE_INTERNAL_EXECUTION_PROJECT": execution.project,
        "FLYTE_INTERNAL_EXECUTION_DOMAIN": execution.domain,
        "FLYTE_ATTEMPT_NUMBER": str(key.attempt),
        "FLYTE_INTERNAL_TASK_PROJECT": task.project,
        "FLYTE_INTERNAL_TASK_DOMAIN": task.domain,
        "FLYTE_INTERNAL_TASK_NAME": task.name,
        "FLYTE_INTERNAL_TASK_VERSION": task.version,
        "FLYTE_INTERNAL_PROJECT": task.project,
        "FLYTE_INTERNAL_DOMAIN": task.domain,
        "FLYTE_INTERNAL_NAME": task.name,
        "FLYTE_INTERNAL_VERSION": task.version,
    }


def check_executable(command: Sequence[str], env: Mapping[str, str]) -> None:
    """Raise NotExecutable unless a process can have this command and this environment."""
    for number, argument in enumerate(command):
        if "\0" in argument:
            raise NotExecutable(f"word {number + 1} of the command has a NUL character, which no process can get")
    for name, value in env.items():
        if not name or "=" in name or "\0" in name:
            raise NotExecutable(
                f"{name!r} cannot be the name of an environment variable: a name has at least one character, "
                "and neither '=' nor NUL"
            )
        if "\0" in value:
            raise NotExecutable(f"the value of the environment variable {name!r} has a NUL character")


def array_variables(array: ArrayItem | None) -> dict[str, str]:
    """Return the variables by which an item of an array node finds its inputs."""
    return {} if array is None else {_INDEX_NAME: _INDEX, _INDEX: str(array.index)}
