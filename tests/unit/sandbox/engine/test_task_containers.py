"""What of a task runs as a process, and which tasks are refused."""

import pytest
from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.core.literals_pb2 import KeyValuePair
from flyteidl.core.tasks_pb2 import Container, K8sPod, Resources, TaskTemplate
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from deploy.sandbox.engine.tasks.containers import UnsupportedTask, container_of

ID = Identifier(project="p", domain="d", name="flows.t", version="v")


def pod(spec: dict[str, object], **config: str) -> TaskTemplate:
    return TaskTemplate(id=ID, type="sidecar", k8s_pod=K8sPod(pod_spec=ParseDict(spec, Struct())), config=config)


def test_container_has_command_arguments_and_environment() -> None:
    template = TaskTemplate(
        id=ID,
        type="python-task",
        container=Container(
            image="i",
            command=["a"],
            args=["b", "c"],
            env=[KeyValuePair(key="K", value="1"), KeyValuePair(key="K", value="2")],
        ),
    )
    found = container_of(template)
    assert (found.command, found.image, found.env) == (["a", "b", "c"], "i", {"K": "2"})


def test_primary_container_of_a_pod_is_its_container() -> None:
    spec: dict[str, object] = {
        "containers": [
            {
                "name": "main",
                "image": "i",
                "command": ["run"],
                "args": ["x"],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {}}],
                "resources": {"requests": {"cpu": "2", "nvidia.com/gpu": "1"}},
            }
        ]
    }
    found = container_of(pod(spec, primary_container_name="main"))
    assert (found.command, found.env) == (["run", "x"], {"A": "1"})
    assert found.resources == Resources(requests=[Resources.ResourceEntry(name=Resources.CPU, value="2")])


def test_nulls_of_a_pod_are_as_absent() -> None:
    main: dict[str, object] = {"name": "main", "command": ["run", None], "args": None, "image": None, "resources": None}
    main["env"] = [None, {"name": "A", "value": None}, {"name": None, "value": "x"}, {"value": "y"}]
    found = container_of(pod({"containers": [None, main], "initContainers": None}, primary_container_name="main"))
    assert (found.command, found.image, found.env) == (["run"], "", {"": "y"})
    main |= {"env": None, "resources": {"requests": None}}
    assert container_of(pod({"containers": [main]}, primary_container_name="main")).env == {}
    with pytest.raises(UnsupportedTask, match="no primary container"):
        container_of(pod({"containers": None}))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (
            TaskTemplate(id=ID, type="spark", container=Container(command=["a"])),
            "task type 'spark' of flows.t needs a plugin",
        ),
        (TaskTemplate(id=ID, type="bigquery_query_job_task"), "'bigquery_query_job_task' of flows.t has no container"),
        (TaskTemplate(id=ID, type="raw-container", container=Container(image="i")), "has no command"),
        (pod({"containers": []}, primary_container_name="main"), "no primary container 'main'"),
        (
            pod({"containers": [{"name": "main", "args": ["x"]}, {"name": "proxy"}]}, primary_container_name="main"),
            r"further containers \(proxy\)",
        ),
    ],
)
def test_task_that_needs_more_than_a_process_is_refused(template: TaskTemplate, reason: str) -> None:
    with pytest.raises(UnsupportedTask, match=reason):
        container_of(template)
