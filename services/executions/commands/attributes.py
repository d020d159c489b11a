"""`attributes`: the engine inputs of an execution."""

import argparse
import json
import sys
from collections.abc import Sequence

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from google.protobuf.json_format import MessageToDict

from services.contracts.engine import EngineInputs
from services.contracts.execution_argument import execution_argument
from services.executions.commands import NOT_FOUND
from services.executions.config import Settings
from services.executions.engine.inputs import engine_inputs
from services.executions.store import executions
from services.kit.db.database import at_terminal
from services.kit.process.service import Command


async def attributes(settings: Settings, arguments: Sequence[str]) -> int:
    """Show the task resources, queue tags, plugin overrides and cluster resources that act on an execution."""
    options = argparse.ArgumentParser(
        prog="python -m services.executions attributes",
        description="Shows what an execution's engine receives from matchable attributes and settings:\n"
        "task resources, tags of queues, plugin overrides, cluster resources; JSON.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("execution", type=execution_argument, metavar="PROJECT/DOMAIN/NAME")
    chosen = options.parse_args(arguments).execution
    identifier = WorkflowExecutionIdentifier(project=chosen.project, domain=chosen.domain, name=chosen.name)
    async with at_terminal(settings.database_url) as db, db.read() as connection:
        row = await executions.get(connection, identifier)
    if row is None:
        sys.stderr.write(f"no execution {'/'.join(chosen)}\n")
        return NOT_FOUND
    inputs = engine_inputs(row.attributes, chosen.domain, settings)
    sys.stdout.write(json.dumps(_as_json(inputs), indent=2, ensure_ascii=False) + "\n")
    return 0


def _as_json(inputs: EngineInputs) -> dict[str, object]:
    overrides = [MessageToDict(override, preserving_proto_field_name=True) for override in inputs.plugin_overrides]
    return {
        "task_resources": MessageToDict(inputs.task_resources, preserving_proto_field_name=True),
        "queue_tags": list(inputs.queue_tags),
        "plugin_overrides": overrides,
        "cluster_resources": dict(inputs.cluster_resources),
    }


ATTRIBUTES = Command("show what attributes and settings make of an execution", attributes)
