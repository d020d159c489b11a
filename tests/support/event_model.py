"""A simple model of events and state: dictionaries, changed by one event after the other.

It is written from docs/behaviour/events.md#events to test the rules, and shares no code with them. Messages are
plain values (`plain`). Decisions:

- an event that would take an execution back to a former phase is OK without effect (events.md#workflow-phases)
- a node's checkpoint, like its catalog data, stays when a later event has none (events.md#task-node-metadata)
- a node's dynamic_job_spec_uri is stored from its first event on, as its workflow_node_metadata is
  (events.md#first-node-event)
- a task's reasons are not cut (events.md#task-reasons); histories in tests are shorter than the limit
"""

from typing import Any

from google.protobuf.message import Message

from tests.support import event_model_merges as merges
from tests.support.event_model_checks import (
    OK,
    UNNAMED,
    Refused,
    Verdict,
    check_producer,
    complete,
    complete_node,
    complete_task,
    fits,
    known,
    occurred_at,
    over,
    path,
    phase_of,
    present,
    put,
    task_path,
    turns_back,
)
from tests.support.plain import Plain, plain

WORKFLOW_OVER = {"SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"}
NODE_OVER = {"SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED", "SKIPPED", "RECOVERED"}
TASK_OVER = {"SUCCEEDED", "FAILED", "ABORTED"}

_RESULTS = ("outputs", "output_uri", "output_data", "error", "abort_cause", "abort_metadata")


class Model:
    """Executions by id, nodes by execution and node id, tasks by node, task and attempt; ids as text."""

    def __init__(self, max_output_bytes: int, base: str = "mem://metadata", *, inline: bool = False) -> None:
        self.executions: dict[str, Plain] = {}
        self.nodes: dict[str, Plain] = {}
        self.tasks: dict[str, Plain] = {}
        self.objects: dict[str, Plain] = {}
        """Offloaded data, by URI."""
        self._max_output_bytes = max_output_bytes
        self._base = base
        self._inline = inline

    def create(self, execution: str, cluster: str, closure: Plain, spec: Plain) -> None:
        """Add an execution (by its path) as it is before its first event."""
        self.executions[execution] = {"cluster": cluster, "closure": closure, "spec": spec}

    def take(self, request: Message) -> Verdict:
        """Apply one request and return its verdict."""
        try:
            event = present(plain(request), "event")
            if "occurred_at" in event:
                occurred_at(event)  # a value that no list could return is refused before all other checks
            kind = request.DESCRIPTOR.name.removesuffix("ExecutionEventRequest")
            size = request.event.output_data.ByteSize()  # type: ignore[attr-defined]  # every kind has it
            too_large = size > self._max_output_bytes
            {"Workflow": self._workflow, "Node": self._node, "Task": self._task}[kind](event, too_large)
        except Refused as refused:
            return refused.verdict
        return OK

    # events.md#createworkflowevent

    def _workflow(self, event: Plain, too_large: bool) -> None:
        identifier = present(event, "execution_id")
        fits(too_large)
        complete(identifier, "project", "domain", "name")
        phase = phase_of(event)
        execution = self._execution(identifier)
        closure = execution["closure"]
        stored = closure.get("phase", "UNDEFINED")
        if phase != "QUEUED":
            if phase == stored:
                raise Refused("ALREADY_EXISTS")
            check_producer(event, execution)
        if stored in WORKFLOW_OVER:
            raise over(stored)
        if (stored == "RUNNING" and phase == "QUEUED") or (stored == "ABORTING" and phase not in WORKFLOW_OVER):
            raise Refused("FAILED_PRECONDITION")
        occurred = occurred_at(event)
        if turns_back(stored, phase):
            return
        if phase == "QUEUED" and event.get("producer_id", "") not in UNNAMED:
            execution["cluster"] = event["producer_id"]
            system = execution["spec"].setdefault("metadata", {}).setdefault("system_metadata", {})
            system["execution_cluster"] = event["producer_id"]
        put(closure, "phase", phase, "UNDEFINED")
        closure["updated_at"] = occurred
        if phase == "RUNNING":
            closure["started_at"] = occurred
        if phase == "SUCCEEDED" and "created_at" in closure:
            closure.setdefault("started_at", closure["created_at"])
        if phase in WORKFLOW_OVER and "started_at" in closure:
            closure["duration"] = occurred - closure["started_at"]
        self._result(closure, event, path(identifier), in_closure=lambda uri: ("outputs", {"uri": uri}))

    # events.md#createnodeevent

    def _node(self, event: Plain, too_large: bool) -> None:
        identifier = present(event, "id")
        complete_node(identifier)
        fits(too_large)
        phase = phase_of(event)
        check_producer(event, self._execution(identifier["execution_id"]))
        key = path(identifier)
        node = self.nodes.get(key)
        if node is None:
            node = self._first_node(identifier, event)
            node["closure"]["created_at"] = occurred_at(event)
        else:
            self._check_node(node, event)
            occurred_at(event)
            ends = {identifier["node_id"], node["metadata"].get("spec_node_id")}
            if phase in NODE_OVER - {"SKIPPED", "RECOVERED"} and "end-node" not in ends:
                node["closure"].setdefault("started_at", node["closure"]["created_at"])
        self.nodes[key] = node
        self._advance_node(key, node, event, phase)

    def _first_node(self, identifier: Plain, event: Plain) -> Plain:
        node: Plain = {"closure": {}, "metadata": {}, "input_uri": "", "parent": "", "parent_task": "", "dynamic": {}}
        node["event_version"] = event.get("event_version", 0)
        if "id" in event.get("parent_task_metadata", {}):
            task = event["parent_task_metadata"]["id"]
            complete_node(present(task, "node_execution_id"))
            complete_task(present(task, "task_id"))
            node["parent_task"] = known(self.tasks, task_path(task["node_execution_id"], task))
        if parent := event.get("parent_node_metadata", {}).get("node_id"):
            node["parent"] = known(self.nodes, f"{path(identifier['execution_id'])}/{parent}")
        for name in ("retry_group", "spec_node_id"):
            put(node["metadata"], name, event.get(name, ""))
        return node

    def _check_node(self, node: Plain, event: Plain) -> None:
        stored, phase = node["closure"].get("phase", "UNDEFINED"), phase_of(event)
        if stored == phase:
            raise Refused("ALREADY_EXISTS")
        if stored in NODE_OVER:
            raise over(phase)  # the event's phase, as in flyteadmin
        if "execution_id" in event.get("workflow_node_metadata", {}):
            self._execution(event["workflow_node_metadata"]["execution_id"])

    def _advance_node(self, key: str, node: Plain, event: Plain, phase: str) -> None:
        closure, metadata = node["closure"], node["metadata"]
        put(closure, "phase", phase, "UNDEFINED")
        closure["updated_at"] = event.get("reported_at") or event["occurred_at"]
        self._inputs(node, event, key)
        if phase == "RUNNING":
            closure["started_at"] = event["occurred_at"]
        if phase in NODE_OVER:
            self._end(closure, event, key)
        if phase in NODE_OVER or phase == "RUNNING":
            put(closure, "deck_uri", event.get("deck_uri", ""))
        for flag in ("is_parent", "is_dynamic", "is_array", "is_eager"):
            if event.get(flag):
                metadata["is_parent_node" if flag == "is_parent" else flag] = True
        if "workflow_node_metadata" in event and "workflow_node_metadata" not in closure:
            closure.pop("task_node_metadata", None)
            child = event["workflow_node_metadata"].get("execution_id")
            closure["workflow_node_metadata"] = {} if child is None else {"executionId": child}
        if "task_node_metadata" in event:
            self._task_node_metadata(node, event["task_node_metadata"])

    def _task_node_metadata(self, node: Plain, metadata: Plain) -> None:
        closure = node["closure"]
        closure.pop("workflow_node_metadata", None)
        stored_metadata = closure.setdefault("task_node_metadata", {})
        if metadata.get("checkpoint_uri"):
            stored_metadata["checkpoint_uri"] = metadata["checkpoint_uri"]
        if "catalog_key" in metadata:
            stored_metadata["catalog_key"] = metadata["catalog_key"]
            put(stored_metadata, "cache_status", metadata.get("cache_status", "CACHE_DISABLED"), "CACHE_DISABLED")
        dynamic = metadata.get("dynamic_workflow", {})
        if dynamic.get("dynamic_job_spec_uri"):
            closure["dynamic_job_spec_uri"] = dynamic["dynamic_job_spec_uri"]
        node["dynamic"] = dynamic.get("compiled_workflow", node["dynamic"])

    # events.md#createtaskevent

    def _task(self, event: Plain, too_large: bool) -> None:
        if "occurred_at" not in event:
            raise Refused("INVALID_ARGUMENT")
        fits(too_large)
        parent = present(event, "parent_node_execution_id")
        complete_node(parent)
        complete_task(present(event, "task_id"))
        phase, version = phase_of(event), event.get("phase_version", 0)
        check_producer(event, self._execution(parent["execution_id"]))
        key = task_path(parent, event)
        task = self.tasks.get(key)
        if task is None:
            known(self.nodes, path(parent))
            occurred_at(event)
            task = self.tasks[key] = {"closure": merges.first_task(event), "input_uri": ""}
        else:
            stored = task["closure"].get("phase", "UNDEFINED")
            if phase == stored and task["version"] >= version:
                raise Refused("ALREADY_EXISTS")
            if stored in TASK_OVER:
                raise over(phase)  # the event's phase, as in flyteadmin
            occurred_at(event)
            merges.later_task(task["closure"], event, stored, phase)
        closure = task["closure"]
        task["version"] = version  # also a zero (events.md#phase-versions)
        put(closure, "phase", phase, "UNDEFINED")
        closure["updated_at"] = event.get("reported_at") or event["occurred_at"]
        self._inputs(task, event, key)
        merges.add_reasons(closure, event)
        if "log_context" in event:
            closure["log_context"] = event["log_context"]
        if phase in TASK_OVER:
            self._end(closure, event, key)

    # What the kinds have in common

    def _execution(self, identifier: Plain) -> Plain:
        return self.executions[known(self.executions, path(identifier))]

    def _inputs(self, entity: Plain, event: Plain, key: str) -> None:
        if entity["input_uri"]:
            return
        if "input_data" in event:
            entity["input_uri"] = self._offloaded(key, "offloaded_inputs", event["input_data"])
        else:
            entity["input_uri"] = event.get("input_uri", "")

    def _end(self, closure: Plain, event: Plain, key: str) -> None:
        if "started_at" in closure:
            closure["duration"] = event["occurred_at"] - closure["started_at"]
        self._result(closure, event, key, in_closure=lambda uri: ("output_uri", uri))

    def _result(self, closure: Plain, event: Plain, key: str, in_closure: Any) -> None:
        if event.get("output_uri"):
            name, value = in_closure(event["output_uri"])
        elif "output_data" in event and self._inline:
            name, value = "output_data", event["output_data"]
        elif "output_data" in event:
            name, value = in_closure(self._offloaded(key, "offloaded_outputs", event["output_data"]))
        elif "error" in event:
            name, value = "error", event["error"]
        else:
            return
        for other in _RESULTS:
            closure.pop(other, None)
        closure[name] = value

    def _offloaded(self, key: str, name: str, data: Plain) -> str:
        uri = f"{self._base}/{key}/{name}"
        self.objects[uri] = data
        return uri
