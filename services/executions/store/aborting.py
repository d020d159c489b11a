"""Executions that are being aborted for too long, as the reconciler takes them up."""

from datetime import datetime

from flyteidl.admin.execution_pb2 import ExecutionClosure

from services.executions.rules.events.state import ExecutionKey, ExecutionState
from services.kit.pg_values import bigint, read_text, timestamp
from services.kit.pipeline import Pipeline, Statement

# Whoever holds a row, an event or another replica, is about to change it: it is looked at again in the next round. A
# release before this one does not say since when; its rows wait from their last change.
_TAKE = Statement("""
SELECT execution_project, execution_domain, execution_name, cluster, closure FROM executions
WHERE phase = 'ABORTING' AND COALESCE(aborting_since, updated_at) < %(before)b::timestamptz
ORDER BY aborting_since
LIMIT %(most)b::bigint
FOR UPDATE SKIP LOCKED
""")

_POSTPONE = Statement("""
UPDATE executions SET aborting_since = now()
WHERE (execution_project, execution_domain, execution_name) = (%(project)b::text, %(domain)b::text, %(name)b::text)
""")


def postpone(pipeline: Pipeline, key: ExecutionKey) -> None:
    """Let an execution wait anew, when the pipeline runs."""
    pipeline.put(_POSTPONE, {name: value.encode() for name, value in key._asdict().items()})


async def take_overdue(pipeline: Pipeline, before: datetime, most: int) -> list[ExecutionState]:
    """Lock executions that have been ABORTING since before `before`, `most` at most and the longest first."""
    values = {"before": timestamp(before), "most": bigint(most)}
    found = pipeline.put(_TAKE, values)
    await pipeline.run()
    return [
        ExecutionState(
            ExecutionKey(read_text(row[0]), read_text(row[1]), read_text(row[2])),
            read_text(row[3]),
            ExecutionClosure.FromString(row[4] or b""),
        )
        for row in found.rows
    ]
