"""All tables of the executions service (executions.md#storage).

Rows contain Flyte's messages serialized, so reads copy bytes, and the columns that filters, sorts and decisions need.
Natural keys are unique indexes; `id` is a surrogate that breaks ties and links rows. Column names are those that
clients write in filters.

Launched entities are stored by identifier (`launch_plan_*`, `workflow_*`, `task_*`): their rows are in the registry's
database, and clients filter executions by `workflow.name`. There is no `deleted_at`, as nothing is deleted.
"""

from typing import Any

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Boolean,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    and_,
    desc,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from services.kit.audit.table import audit_table
from services.kit.messaging.outbox_table import outbox_table

metadata = MetaData()

# Events rewrite closures. The migration leaves free space on each page of the three tables of executions (fillfactor),
# so PostgreSQL does that without changing an index (HOT) unless an indexed column changes. Therefore no index has a
# column that events write, except those by phase.

# Phases that count towards a launch plan's concurrency limit (executions.md#concurrency-policy). New executions are
# UNDEFINED until the engine's first event.
UNFINISHED_PHASES = ("UNDEFINED", "QUEUED", "RUNNING")


def _id() -> Column[int]:
    return Column("id", BigInteger, Identity(always=True), primary_key=True)


def _text(name: str, default: str | None = "") -> Column[str]:
    return Column(name, Text, nullable=False, server_default=default)


def _time(name: str, *, now: bool = False) -> Column[Any]:
    return Column(name, TIMESTAMP(timezone=True), nullable=not now, server_default=func.now() if now else None)


def _number(name: str, kind: type[Integer | BigInteger] = BigInteger) -> Column[int]:
    return Column(name, kind, nullable=False, server_default="0")


def _message(name: str) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False)


def _execution_key() -> tuple[Column[str], Column[str], Column[str]]:
    return (
        _text("execution_project", None),
        _text("execution_domain", None),
        _text("execution_name", None),
    )


EXECUTION_KEY = ("execution_project", "execution_domain", "execution_name")


executions = Table(
    "executions",
    metadata,
    _id(),
    _time("created_at", now=True),  # of the row; the closure's own times are execution_created_at and so on
    _time("updated_at", now=True),
    *_execution_key(),
    _text("phase"),  # core.WorkflowExecution.Phase by name
    _message("spec"),  # admin.ExecutionSpec without its inputs
    Column("spec_inputs", LargeBinary),  # core.LiteralMap sent in the deprecated spec.inputs; lists leave it out
    _message("closure"),  # admin.ExecutionClosure
    # admin.WorkflowExecutionConfig that the engine uses: merged, with all labels and annotations
    # (executions.md#execution-configuration). The spec has what the client sent.
    Column("execution_config", LargeBinary, nullable=False, server_default=text("''::bytea")),
    # admin.ListMatchableAttributesResponse: the other matchable attributes that act on it, one of a kind at most, each
    # with the scope that it was set for. Responses show those that a spec has a field for.
    Column("execution_attributes", LargeBinary, nullable=False, server_default=text("''::bytea")),
    _time("started_at"),
    _time("execution_created_at"),
    _time("execution_updated_at"),
    _number("duration"),  # nanoseconds; 0 until known
    _text("abort_cause"),
    _time("aborting_since"),  # time of the first TerminateExecution; null without one
    _number("mode", Integer),
    _number("source_execution_id"),  # executions.id of the parent or of what was relaunched; 0 for none
    _number("parent_node_execution_id"),  # node_executions.id; 0 for none
    _text("cluster"),
    _text("inputs_uri"),
    _text("user_inputs_uri"),
    Column("error_kind", Text),  # USER, SYSTEM or UNKNOWN; null without an error
    Column("error_code", Text),
    _text("user"),
    _number("state", Integer),  # admin.ExecutionState
    _text("launch_entity"),  # "launch_plan" or "task"
    Column("launch_plan_project", Text),  # null for single-task executions, as an inner join would leave them out
    Column("launch_plan_domain", Text),
    Column("launch_plan_name", Text),
    Column("launch_plan_version", Text),
    _text("workflow_project"),
    _text("workflow_domain"),
    _text("workflow_name"),
    _text("workflow_version"),
    Column("task_project", Text),  # null unless a single task was launched
    Column("task_domain", Text),
    Column("task_name", Text),
    Column("task_version", Text),
    UniqueConstraint(*EXECUTION_KEY, name="executions_key"),
)

# Has few entries, as each of these executions ends within minutes.
Index("executions_aborting", executions.c.aborting_since, postgresql_where=executions.c.phase == "ABORTING")

Index(
    "executions_by_parent_node",
    executions.c.parent_node_execution_id,
    postgresql_where=executions.c.parent_node_execution_id != 0,
)

_PROJECT_DOMAIN = (executions.c.execution_project, executions.c.execution_domain)
_NEWEST = (desc(executions.c.created_at), desc(executions.c.id))

# For the lists that the console, flytectl and flytekit request (lists.md#what-clients-send, clients.md#console-calls).
Index("executions_by_creation", *_PROJECT_DOMAIN, executions.c.state, *_NEWEST)
Index(
    "executions_by_execution_creation",
    *_PROJECT_DOMAIN,
    executions.c.state,
    desc(executions.c.execution_created_at),
    desc(executions.c.id),
)
# Lists contain executions that are not archived, unless a filter names `state`. With the column in the index,
# PostgreSQL does not read the rows that an offset skips.
_NEWEST_AND_STATE = (*_NEWEST, executions.c.state)
Index("executions_by_workflow", *_PROJECT_DOMAIN, executions.c.workflow_name, *_NEWEST_AND_STATE)
Index(
    "executions_by_launch_plan",
    *_PROJECT_DOMAIN,
    executions.c.launch_plan_name,
    *_NEWEST_AND_STATE,
    postgresql_where=executions.c.launch_plan_name.is_not(None),
)
Index(
    "executions_by_task",
    *_PROJECT_DOMAIN,
    executions.c.task_name,
    *_NEWEST_AND_STATE,
    postgresql_where=executions.c.task_name.is_not(None),
)
Index("executions_by_user", *_PROJECT_DOMAIN, executions.c.user, *_NEWEST_AND_STATE)
Index("executions_by_mode", *_PROJECT_DOMAIN, executions.c.mode, *_NEWEST_AND_STATE)
# A change of phase is no HOT update in any case, because of the index of unfinished executions; here it adds one entry.
Index("executions_by_phase", *_PROJECT_DOMAIN, executions.c.phase, *_NEWEST_AND_STATE)
Index(
    "executions_active_by_launch_plan",
    executions.c.launch_plan_project,
    executions.c.launch_plan_domain,
    executions.c.launch_plan_name,
    postgresql_where=text(f"phase IN ({', '.join(repr(phase) for phase in UNFINISHED_PHASES)})"),
)

node_executions = Table(
    "node_executions",
    metadata,
    _id(),
    _time("created_at", now=True),
    _time("updated_at", now=True),
    *_execution_key(),
    _text("node_id", None),
    _text("phase"),  # core.NodeExecution.Phase by name
    _text("input_uri"),
    _message("closure"),  # admin.NodeExecutionClosure
    _time("started_at"),
    _time("node_execution_created_at"),
    _time("node_execution_updated_at"),
    _number("duration"),
    _message("node_execution_metadata"),  # admin.NodeExecutionMetaData
    Column("parent_id", BigInteger),  # node_executions.id; null at the top level
    Column("parent_task_execution_id", BigInteger),  # task_executions.id; legacy event version 0 only
    Column("error_kind", Text),
    Column("error_code", Text),
    Column("cache_status", Text),  # core.CatalogCacheStatus by name
    _text("dynamic_workflow_remote_closure_reference"),
    Column("internal_data", LargeBinary, nullable=False, server_default=text("''::bytea")),
    UniqueConstraint(*EXECUTION_KEY, "node_id", name="node_executions_key"),
)
# Clients read the nodes of one level in the order of insertion. These columns never change: an event for an existing
# node changes no index, and a new node adds one entry, to one of these two.
Index(
    "node_executions_of_top_level",
    *(node_executions.c[part] for part in EXECUTION_KEY),
    node_executions.c.created_at,
    node_executions.c.id,
    postgresql_where=and_(node_executions.c.parent_id.is_(None), node_executions.c.parent_task_execution_id.is_(None)),
)
Index(
    "node_executions_of_parent",
    node_executions.c.parent_id,
    node_executions.c.created_at,
    node_executions.c.id,
    postgresql_where=node_executions.c.parent_id.is_not(None),
)
Index(
    "node_executions_by_parent_task",
    node_executions.c.parent_task_execution_id,
    node_executions.c.id,
    postgresql_where=node_executions.c.parent_task_execution_id.is_not(None),
)

task_executions = Table(
    "task_executions",
    metadata,
    _id(),
    _time("created_at", now=True),
    _time("updated_at", now=True),
    _text("project", None),  # of the task, which need not be registered
    _text("domain", None),
    _text("name", None),
    _text("version", None),
    *_execution_key(),
    _text("node_id", None),
    _number("retry_attempt", Integer),
    _text("phase"),  # core.TaskExecution.Phase by name
    _number("phase_version", Integer),
    _text("input_uri"),
    _message("closure"),  # admin.TaskExecutionClosure; see resources_chunked
    _time("started_at"),
    _time("task_execution_created_at"),
    _time("task_execution_updated_at"),
    _number("duration"),
    # Whether the external resources are in external_resources; otherwise all are in the closure.
    Column("resources_chunked", Boolean, nullable=False, server_default=false()),
    # The node's columns come first, as every list and every event searches by node.
    UniqueConstraint(
        *EXECUTION_KEY, "node_id", "retry_attempt", "project", "domain", "name", "version", name="task_executions_key"
    ),
)

# The subtasks of map tasks, from events. A row contains the resources of some neighbouring indexes, serialized as the
# field external_resources of event.TaskExecutionMetadata: the chunks concatenated are the whole field. The fillfactor
# lets PostgreSQL rewrite a chunk in its page.
external_resources = Table(
    "external_resources",
    metadata,
    Column("task_execution_id", BigInteger, primary_key=True, autoincrement=False),
    Column("chunk", Integer, primary_key=True, autoincrement=False),
    _message("resources"),
)

# The number of nodes and tasks of an execution in each phase, by the phase's name. The fillfactor lets PostgreSQL
# rewrite a row in its page with every event.
phase_counts = Table(
    "phase_counts",
    metadata,
    *(Column(name, Text, primary_key=True) for name in EXECUTION_KEY),
    Column("nodes", JSONB, nullable=False),
    Column("tasks", JSONB, nullable=False),
)

execution_tags = Table(
    "execution_tags",
    metadata,
    _id(),
    _time("created_at", now=True),
    _time("updated_at", now=True),
    *_execution_key(),
    _text("key", None),
    _text("value"),
    UniqueConstraint(*EXECUTION_KEY, "key", "value", name="execution_tags_key"),
)
Index("execution_tags_by_key", execution_tags.c.key, execution_tags.c.value)

signals = Table(
    "signals",
    metadata,
    _id(),
    _time("created_at", now=True),
    _time("updated_at", now=True),
    *_execution_key(),
    _text("signal_id", None),
    _message("type"),  # core.LiteralType
    Column("value", LargeBinary),  # core.Literal; null until set
    UniqueConstraint(*EXECUTION_KEY, "signal_id", name="signals_key"),
)

outbox = outbox_table(metadata)

# The lane cursors. A cursor is written in the transaction that applies a batch, so a batch that is delivered again gets
# the verdicts of the first time.
event_lanes = Table(
    "event_lanes",
    metadata,
    Column("lane", Integer, primary_key=True, autoincrement=False),
    Column("stream_sequence", BigInteger, nullable=False),
    Column("verdicts", LargeBinary, nullable=False),
    Column("stored_at", TIMESTAMP(timezone=True)),  # in the stream, and a microsecond later with each direct batch
    Column("senders", Text),  # JSON: the number of the last batch of each
)

# Applied batches, with their verdicts, until the event log has them.
applied_batches = Table(
    "applied_batches",
    metadata,
    _id(),
    Column("lane", SmallInteger, nullable=False),
    Column("received_at", TIMESTAMP(timezone=True), nullable=False),
    _text("batch_id", None),
    Column("marks", LargeBinary),  # fingerprints, 8 bytes for each event, under the name of the event log
    Column("payload", LargeBinary, nullable=False),  # storage EXTERNAL
    Column("verdicts", LargeBinary, nullable=False),  # framed; empty: the batch cannot be read
)

audit_log = audit_table(metadata)
