"""The statements of `event_rows`: one for each kind of row, with arrays as parameters.

They are on the hot path, so they are constant texts that a connection prepares once.
"""

from services.kit.db.pipeline import Statement

SAVEPOINT = Statement("SAVEPOINT event")
RELEASE_SAVEPOINT = Statement("RELEASE SAVEPOINT event")
BACK_TO_SAVEPOINT = Statement("ROLLBACK TO SAVEPOINT event")

LANE = Statement("""
SELECT verdicts, stream_sequence, stored_at, senders FROM event_lanes WHERE lane = %(lane)b::bigint FOR UPDATE
""")
NEW_LANE = Statement("""
INSERT INTO event_lanes (lane, stream_sequence, verdicts) VALUES (%(lane)b::bigint, 0, ''::bytea)
ON CONFLICT DO NOTHING
""")
# Divides by zero, which aborts the transaction, unless the cursor is at the expected position.
MOVE_CURSOR = Statement("""
WITH moved AS (
    UPDATE event_lanes
    SET stream_sequence = %(sequence)b::bigint, stored_at = %(stored)b::timestamptz, verdicts = %(verdicts)b::bytea,
        senders = %(senders)b::text
    WHERE lane = %(lane)b::bigint AND stream_sequence = %(before)b::bigint
        AND stored_at IS NOT DISTINCT FROM %(stored_before)b::timestamptz
    RETURNING lane
)
SELECT 1 / count(*) FROM moved
""")

EXECUTIONS_TO_CHANGE = Statement("""
SELECT e.execution_project, e.execution_domain, e.execution_name, e.cluster, e.closure,
       CASE WHEN k.spec THEN e.spec ELSE ''::bytea END
FROM unnest(%(projects)b::text[], %(domains)b::text[], %(names)b::text[], %(specs)b::bool[])
     AS k (project, domain, name, spec)
JOIN executions e ON (e.execution_project, e.execution_domain, e.execution_name) = (k.project, k.domain, k.name)
ORDER BY e.id
FOR UPDATE OF e
""")

EXECUTIONS_REFERENCED = Statement("""
SELECT e.execution_project, e.execution_domain, e.execution_name, e.cluster
FROM unnest(%(projects)b::text[], %(domains)b::text[], %(names)b::text[]) AS k (project, domain, name)
JOIN executions e ON (e.execution_project, e.execution_domain, e.execution_name) = (k.project, k.domain, k.name)
""")

# Reserves an id for a missing row: within a batch a node may become the parent of the next one.
NODES = Statement("""
SELECT k.project, k.domain, k.name, k.node_id, n.id,
       CASE WHEN n.id IS NULL AND k.state THEN nextval(pg_get_serial_sequence('node_executions', 'id')) END,
       CASE WHEN k.state THEN n.closure END,
       n.node_execution_metadata, n.input_uri, n.dynamic_workflow_remote_closure_reference
FROM unnest(%(projects)b::text[], %(domains)b::text[], %(names)b::text[], %(nodes)b::text[], %(states)b::bool[])
     AS k (project, domain, name, node_id, state)
LEFT JOIN node_executions n
     ON (n.execution_project, n.execution_domain, n.execution_name, n.node_id)
      = (k.project, k.domain, k.name, k.node_id)
""")

TASKS = Statement("""
SELECT k.project, k.domain, k.name, k.node_id, k.task_project, k.task_domain, k.task_name, k.task_version,
       k.retry_attempt, t.id,
       CASE WHEN t.id IS NULL AND k.state THEN nextval(pg_get_serial_sequence('task_executions', 'id')) END,
       CASE WHEN k.state THEN t.closure END, t.phase_version, t.input_uri, t.resources_chunked
FROM unnest(%(projects)b::text[], %(domains)b::text[], %(names)b::text[], %(nodes)b::text[],
            %(task_projects)b::text[], %(task_domains)b::text[], %(task_names)b::text[], %(task_versions)b::text[],
            %(attempts)b::int[], %(states)b::bool[])
     AS k (project, domain, name, node_id, task_project, task_domain, task_name, task_version, retry_attempt, state)
LEFT JOIN task_executions t
     ON (t.execution_project, t.execution_domain, t.execution_name, t.node_id, t.retry_attempt,
         t.project, t.domain, t.name, t.version)
      = (k.project, k.domain, k.name, k.node_id, k.retry_attempt,
         k.task_project, k.task_domain, k.task_name, k.task_version)
""")

# A former error stays in its columns when a later event has none, as the closure's result does.
CHANGE_EXECUTIONS = Statement("""
UPDATE executions e
SET phase = u.phase, closure = u.closure, started_at = u.started_at, execution_updated_at = u.recorded_at,
    duration = u.duration, cluster = u.cluster, spec = CASE WHEN u.spec = ''::bytea THEN e.spec ELSE u.spec END,
    error_kind = COALESCE(u.error_kind, e.error_kind), error_code = COALESCE(u.error_code, e.error_code),
    updated_at = now()
FROM unnest(%(projects)b::text[], %(domains)b::text[], %(names)b::text[], %(phases)b::text[], %(closures)b::bytea[],
            %(started)b::timestamptz[], %(recorded)b::timestamptz[], %(durations)b::bigint[], %(clusters)b::text[],
            %(specs)b::bytea[], %(error_kinds)b::text[], %(error_codes)b::text[])
     AS u (project, domain, name, phase, closure, started_at, recorded_at, duration, cluster, spec,
           error_kind, error_code)
WHERE (e.execution_project, e.execution_domain, e.execution_name) = (u.project, u.domain, u.name)
""")

NODE_STATE = """
%(ids)b::bigint[], %(phases)b::text[], %(inputs)b::text[], %(closures)b::bytea[], %(started)b::timestamptz[],
%(recorded)b::timestamptz[], %(durations)b::bigint[], %(metadata)b::bytea[], %(error_kinds)b::text[],
%(error_codes)b::text[], %(caches)b::text[], %(dynamics)b::text[]
"""

CHANGE_NODES = Statement(f"""
UPDATE node_executions n
SET phase = u.phase, input_uri = u.input_uri, closure = u.closure, started_at = u.started_at,
    node_execution_updated_at = u.recorded_at, duration = u.duration, node_execution_metadata = u.metadata,
    error_kind = u.error_kind, error_code = u.error_code, cache_status = u.cache_status,
    dynamic_workflow_remote_closure_reference = u.dynamic, updated_at = now()
FROM unnest({NODE_STATE})
     AS u (id, phase, input_uri, closure, started_at, recorded_at, duration, metadata, error_kind, error_code,
           cache_status, dynamic)
WHERE n.id = u.id
""")

NEW_NODES = Statement(f"""
INSERT INTO node_executions (
    id, phase, input_uri, closure, started_at, node_execution_updated_at, duration, node_execution_metadata,
    error_kind, error_code, cache_status, dynamic_workflow_remote_closure_reference,
    execution_project, execution_domain, execution_name, node_id, node_execution_created_at,
    parent_id, parent_task_execution_id, internal_data)
OVERRIDING SYSTEM VALUE
SELECT * FROM unnest({NODE_STATE},
    %(projects)b::text[], %(domains)b::text[], %(names)b::text[], %(nodes)b::text[], %(created)b::timestamptz[],
    %(parents)b::bigint[], %(parent_tasks)b::bigint[], %(internals)b::bytea[])
""")

TASK_STATE = """
%(ids)b::bigint[], %(phases)b::text[], %(versions)b::int[], %(inputs)b::text[], %(closures)b::bytea[],
%(started)b::timestamptz[], %(recorded)b::timestamptz[], %(durations)b::bigint[], %(chunked)b::bool[]
"""

CHANGE_TASKS = Statement(f"""
UPDATE task_executions t
SET phase = u.phase, phase_version = u.phase_version, input_uri = u.input_uri, closure = u.closure,
    started_at = u.started_at, task_execution_updated_at = u.recorded_at, duration = u.duration,
    resources_chunked = u.chunked, updated_at = now()
FROM unnest({TASK_STATE})
     AS u (id, phase, phase_version, input_uri, closure, started_at, recorded_at, duration, chunked)
WHERE t.id = u.id
""")

NEW_TASKS = Statement(f"""
INSERT INTO task_executions (
    id, phase, phase_version, input_uri, closure, started_at, task_execution_updated_at, duration,
    resources_chunked, execution_project, execution_domain, execution_name, node_id,
    project, domain, name, version, retry_attempt, task_execution_created_at)
OVERRIDING SYSTEM VALUE
SELECT * FROM unnest({TASK_STATE},
    %(projects)b::text[], %(domains)b::text[], %(names)b::text[], %(nodes)b::text[],
    %(task_projects)b::text[], %(task_domains)b::text[], %(task_names)b::text[], %(task_versions)b::text[],
    %(attempts)b::int[], %(created)b::timestamptz[])
""")
