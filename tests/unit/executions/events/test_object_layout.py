"""URIs of offloaded data: names that senders choose never give two objects one path."""

import hashlib

from services.executions.rules.events.layout import INPUTS, OUTPUTS, ObjectLayout
from services.executions.rules.events.state import ExecutionKey, NodeKey, TaskKey

LAYOUT = ObjectLayout(lambda *parts: "/".join(parts))
ODD = "a task/of any name"
NAMES = ("n0", INPUTS, OUTPUTS, "dynamic", "..", ODD, hashlib.sha256(ODD.encode()).hexdigest())


def test_objects_never_have_the_path_of_another_object_or_of_its_folder() -> None:
    execution = ExecutionKey("p", "d", "e")
    nodes = [NodeKey(execution, name) for name in NAMES]
    tasks = [TaskKey(node, name, "d", name, name, 0) for node in nodes for name in NAMES]
    uris = [
        *(LAYOUT.execution_data(execution, name) for name in (INPUTS, OUTPUTS)),
        *(LAYOUT.node_data(node, name) for node in nodes for name in (INPUTS, OUTPUTS)),
        *(LAYOUT.task_data(task, name) for task in tasks for name in (INPUTS, OUTPUTS)),
    ]
    folders = {uri.rsplit("/", depth)[0] for uri in uris for depth in range(1, uri.count("/"))}
    assert len(set(uris)) == len(uris)
    assert not folders & set(uris)


def test_the_longest_path_is_accepted_by_every_store() -> None:
    long = "x" * 255
    task = TaskKey(NodeKey(ExecutionKey(long, long, long), long), long, long, long, long, 2**32 - 1)
    uri = LAYOUT.task_data(task, OUTPUTS)
    assert len(uri) < 1024
    limit = "x" * 100
    task = TaskKey(NodeKey(ExecutionKey(limit, limit, limit), limit), limit, limit, limit, limit, 2**32 - 1)
    assert limit in LAYOUT.task_data(task, OUTPUTS)
    assert len(LAYOUT.task_data(task, OUTPUTS)) < 1024
