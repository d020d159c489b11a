"""A data scientist's calls after `pyflyte register`, by FlyteRemote; run with the clients' own environment.

`session.py launch PLAN VERSION [INPUT=NUMBER]` prints the new execution's name; `session.py read NAME` waits for it and
prints phase, node tree and outputs, both as JSON. FLYTECTL_CONFIG names the sandbox's config file.
"""

import json
import sys
from datetime import timedelta

from flytekit.configuration import Config
from flytekit.remote import FlyteRemote

PROJECT, DOMAIN = "flytesnacks", "development"


def launch(remote: FlyteRemote, plan: str, version: str, *inputs: str) -> None:
    """Launch a version of a launch plan."""
    chosen = remote.fetch_launch_plan(name=plan, version=version)
    values = {key: int(value) for key, _, value in (item.partition("=") for item in inputs)}
    print(json.dumps(remote.execute(chosen, inputs=values).id.name))


def read(remote: FlyteRemote, name: str) -> None:
    """Wait for an execution to end, and print its phase, inputs, outputs and nodes."""
    execution = remote.fetch_execution(name=name)
    execution = remote.wait(execution, timeout=timedelta(minutes=1), poll_interval=timedelta(seconds=0.2))
    execution = remote.sync(execution, sync_nodes=True)
    nodes = {
        key: {
            "phase": node.closure.phase,
            "outputs": dict(node.outputs) if node.outputs and node.closure.phase == 3 else {},
            "tasks": [task.closure.phase for task in node.task_executions],
        }
        for key, node in execution.node_executions.items()
    }
    result = {
        "phase": execution.closure.phase,
        "inputs": {key: execution.inputs.get(key) for key in execution.inputs},
        "outputs": {key: execution.outputs.get(key) for key in execution.outputs},
        "nodes": nodes,
    }
    print(json.dumps(result, default=str))


if __name__ == "__main__":
    commands = {"launch": launch, "read": read}
    commands[sys.argv[1]](FlyteRemote(Config.auto(), PROJECT, DOMAIN), *sys.argv[2:])
