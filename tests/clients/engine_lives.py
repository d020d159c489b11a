"""Runs the workflows of `engine_flows/lives.py`; run in their folder, with the clients' own environment.

`engine_lives.py launch WORKFLOW INPUTS` prints the name of an execution, `engine_lives.py recover NAME` that of the one
that recovers it.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path.cwd()))

import lives
from flyteidl.admin.execution_pb2 import ExecutionRecoverRequest
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from flytekit.configuration import Config, ImageConfig, SerializationSettings
from flytekit.remote import FlyteRemote

PROJECT, DOMAIN = "flytesnacks", "development"
VERSION = "lives-1"


def launch(remote: FlyteRemote, workflow: str, inputs: str) -> str:
    """Register a workflow with its code, and launch it."""
    settings = SerializationSettings(
        image_config=ImageConfig.auto(img_name="example.org/none:1"), project=PROJECT, domain=DOMAIN, version=VERSION
    )
    registered = remote.fast_register_workflow(getattr(lives, workflow), settings, VERSION)
    return remote.execute(registered, inputs=json.loads(inputs)).id.name


def recover(remote: FlyteRemote, name: str) -> str:
    """Recover an execution."""
    identifier = WorkflowExecutionIdentifier(project=PROJECT, domain=DOMAIN, name=name)
    response = remote.client._stub.RecoverExecution(ExecutionRecoverRequest(id=identifier))
    return response.id.name


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    print({"launch": launch, "recover": recover}[command](FlyteRemote(Config.auto(), PROJECT, DOMAIN), *arguments))
