"""The phase_counts table: one row for each execution that has nodes, written with its events.

An execution without a row has had no event since the table was added. Its nodes and tasks are counted when its next
event comes.
"""

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from services.executions.rules.events.phase_counts import PhaseCounts
from services.executions.rules.events.state import ExecutionKey
from services.kit.db.binary_parameters import read_text, texts
from services.kit.db.pipeline import Pipeline, Result, Statement

_READ = Statement("""
SELECT k.project, k.domain, k.name,
       COALESCE(c.nodes, (SELECT jsonb_object_agg(phase, number) FROM (
           SELECT phase, count(*) AS number FROM node_executions
           WHERE (execution_project, execution_domain, execution_name) = (k.project, k.domain, k.name)
           GROUP BY phase) p), '{}')::text,
       COALESCE(c.tasks, (SELECT jsonb_object_agg(phase, number) FROM (
           SELECT phase, count(*) AS number FROM task_executions
           WHERE (execution_project, execution_domain, execution_name) = (k.project, k.domain, k.name)
           GROUP BY phase) p), '{}')::text
FROM unnest(%(projects)b::text[], %(domains)b::text[], %(names)b::text[]) AS k (project, domain, name)
LEFT JOIN phase_counts c
     ON (c.execution_project, c.execution_domain, c.execution_name) = (k.project, k.domain, k.name)
""")

_WRITE = Statement("""
INSERT INTO phase_counts (execution_project, execution_domain, execution_name, nodes, tasks)
SELECT project, domain, name, nodes::jsonb, tasks::jsonb
FROM unnest(%(projects)b::text[], %(domains)b::text[], %(names)b::text[], %(nodes)b::text[], %(tasks)b::text[])
     AS u (project, domain, name, nodes, tasks)
ON CONFLICT (execution_project, execution_domain, execution_name)
DO UPDATE SET nodes = excluded.nodes, tasks = excluded.tasks
""")


_PHASE = Statement("""
SELECT phase FROM executions
WHERE (execution_project, execution_domain, execution_name) = (%(project)b::text, %(domain)b::text, %(name)b::text)
""")


class Progress(NamedTuple):
    """The phase of an execution and the counts of its nodes and tasks."""

    phase: str
    counts: PhaseCounts


async def progress(pipeline: Pipeline, key: ExecutionKey) -> Progress | None:
    """Read the phase and the counts of an execution, one row each; return None when it does not exist."""
    result = pipeline.put(_PHASE, {name: value.encode() for name, value in key._asdict().items()})
    counts = query_counts(pipeline, [key])
    await pipeline.run()
    return Progress(read_text(result.rows[0][0]), parse_counts(counts)[key]) if result.rows else None


def query_counts(pipeline: Pipeline, keys: Iterable[ExecutionKey]) -> Result:
    """Request the counts of executions; `keys` must not be empty."""
    return pipeline.put(_READ, _columns(keys))


def parse_counts(result: Result) -> dict[ExecutionKey, PhaseCounts]:
    """Return the requested counts, once the pipeline has run; they are empty for an execution that does not exist."""
    return {
        ExecutionKey(read_text(row[0]), read_text(row[1]), read_text(row[2])): PhaseCounts(
            json.loads(row[3] or b"{}"), json.loads(row[4] or b"{}")
        )
        for row in result.rows
    }


def write_counts(pipeline: Pipeline, counts: Mapping[ExecutionKey, PhaseCounts]) -> None:
    """Write changed counts when the pipeline runs."""
    if counts:
        nodes = texts(_json(phase_counts.nodes) for phase_counts in counts.values())
        tasks = texts(_json(phase_counts.tasks) for phase_counts in counts.values())
        pipeline.put(_WRITE, _columns(counts) | {"nodes": nodes, "tasks": tasks})


def _columns(keys: Iterable[ExecutionKey]) -> dict[str, bytes]:
    projects, domains, names = zip(*keys, strict=True)
    return {"projects": texts(projects), "domains": texts(domains), "names": texts(names)}


def _json(counts: Mapping[str, int]) -> str:
    """Return `counts` as JSON, in a fifth of the library's time: names of phases need no escapes."""
    return "{" + ",".join([f'"{phase}":{number}' for phase, number in counts.items()]) + "}"
