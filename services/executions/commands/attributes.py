"""`attributes`: what acts on an execution beside its spec, as its engine is handed it."""

import argparse
import json
import sys
from collections.abc import Sequence

from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from google.protobuf.json_format import MessageToDict

from services.contracts.execution_names import execution
from services.executions.commands import NOT_FOUND
from services.executions.config import Settings
from services.executions.engine.inputs import EngineInputs, engine_inputs
from services.executions.store import executions
from services.kit.db.database import at_terminal
from services.kit.process.service import Command


async def attributes(settings: Settings, arguments: Sequence[str]) -> int:
    """Show the task resources, queue tags, plugin overrides and cluster resources that act on an execution."""
    options = argparse.ArgumentParser(
        prog="python -m services.executions attributes",
        description="Shows what matchable attributes and settings make of an execution, as its engine is handed it:\n"
        "task resources, tags of queues, plugin overrides, cluster resources; JSON.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("execution", type=execution, metavar="PROJECT/DOMAIN/NAME")
    chosen = options.parse_args(arguments).execution
    identifier = WorkflowExecutionIdentifier(project=chosen.project, domain=chosen.domain, name=chosen.name)
    async with at_terminal(settings.database_url) as db, db.read() as connection:
        row = await executions.get(connection, identifier)
    if row is None:
        sys.stderr.write(f"no execution {'/'.join(chosen)}\n")
        return NOT_FOUND
    told = _told(engine_inputs(row.attributes, chosen.domain, settings))
    sys.stdout.write(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    return 0


def _told(work: EngineInputs) -> dict[str, object]:
    return {
        "task_resources": MessageToDict(work.task_resources, preserving_proto_field_name=True),
        "queue_tags": list(work.queue_tags),
        "plugin_overrides": [MessageToDict(one, preserving_proto_field_name=True) for one in work.plugin_overrides],
        "cluster_resources": dict(work.cluster_resources),
    }


ATTRIBUTES = Command("show what attributes and settings make of an execution", attributes)
