"""Runs workflows by FlyteRemote and prints what became of them; run with the clients' own environment.

`engine_run.py FILE WORKFLOW=INPUTS ...` registers each workflow of the file, launches it with the inputs, which are
JSON, waits for its end and prints a line of JSON: by workflow its name, phase, error, outputs and nodes.
"""

import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from flytekit.configuration import Config, FastSerializationSettings, ImageConfig, SerializationSettings
from flytekit.remote import FlyteRemote
from flytekit.remote.executions import FlyteNodeExecution, FlyteTaskExecution, FlyteWorkflowExecution

PROJECT, DOMAIN = "flytesnacks", "development"


def launch(
    remote: FlyteRemote, workflow: Any, inputs: dict[str, Any], version: str, location: str
) -> FlyteWorkflowExecution:
    """Register a workflow whose code is at `location`, and launch it."""
    settings = SerializationSettings(
        image_config=ImageConfig.auto(img_name="example.org/none:1"),
        project=PROJECT,
        domain=DOMAIN,
        version=version,
        fast_serialization_settings=FastSerializationSettings(
            enabled=True, destination_dir=".", distribution_location=location
        ),
    )
    registered = remote.register_workflow(workflow, serialization_settings=settings, version=version)
    return remote.execute(registered, inputs=inputs)


def flat(tasks: Any) -> Iterator[FlyteTaskExecution]:
    """Yield task executions; of a node with nodes below it flytekit makes lists of lists."""
    for each in tasks:
        if isinstance(each, list):
            yield from flat(each)
        else:
            yield each


def described(node: FlyteNodeExecution) -> dict[str, Any]:
    """Return the phase of a node and of its attempts, and what is below it."""
    tasks = list(flat(node.task_executions))
    return {
        "phase": node.closure.phase,
        "attempts": [task.closure.phase for task in tasks],
        "logs": [log.uri for task in tasks for log in task.closure.logs],
        "error": node.closure.error.message if node.closure.error else "",
        "below": sorted((node.workflow_executions and ["workflow"]) or node.subworkflow_node_executions or {}),
    }


def result(remote: FlyteRemote, execution: FlyteWorkflowExecution) -> dict[str, Any]:
    """Wait for an execution, and return what became of it."""
    execution = remote.wait(execution, timeout=timedelta(minutes=2), poll_interval=timedelta(seconds=0.3))
    execution = remote.sync(execution, sync_nodes=True)
    error = execution.error
    return {
        "name": execution.id.name,
        "phase": execution.closure.phase,
        "error": {"code": error.code, "message": error.message, "kind": error.kind} if error else None,
        "outputs": {name: execution.outputs.get(name) for name in execution.outputs} if not error else {},
        "nodes": {key: described(node) for key, node in execution.node_executions.items()},
    }


def main(file: str, *chosen: str) -> None:
    """Launch all at once, then wait for each."""
    sys.path.insert(0, str(Path.cwd()))
    module = import_module(Path(file).stem)
    remote = FlyteRemote(Config.auto(), PROJECT, DOMAIN)
    digest, location = remote.fast_package(Path.cwd())
    launched = {}
    for name, _, inputs in (each.partition("=") for each in chosen):
        launched[name] = launch(remote, getattr(module, name), json.loads(inputs or "{}"), digest.hex(), location)
    print(json.dumps({name: result(remote, execution) for name, execution in launched.items()}, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
