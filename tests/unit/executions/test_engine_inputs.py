"""Engine inputs: task resources, queues, plugin overrides (engine.md#what-an-engine-receives)."""

import pytest
from flyteidl.admin.matchable_resource_pb2 import (
    ClusterResourceAttributes,
    ExecutionQueueAttributes,
    ListMatchableAttributesResponse,
    MatchableAttributesConfiguration,
    MatchingAttributes,
    PluginOverride,
    PluginOverrides,
    TaskResourceAttributes,
    TaskResourceSpec,
)
from flyteidl.core.tasks_pb2 import Container, K8sPod, Resources, TaskTemplate

from services.contracts.engine import EngineInputs
from services.contracts.task_resources import container_resources, prepared
from services.contracts.workflow_settings import ResourceAmounts
from services.executions.config import Settings
from services.executions.engine.inputs import child_queue, engine_inputs, platform_resources
from services.kit.process.settings import load

SETTINGS = Settings(database_url="postgresql://none", nats_url="nats://none", signing_key="key")
NAMES = {"cpu": Resources.CPU, "memory": Resources.MEMORY, "gpu": Resources.GPU, "disk": Resources.EPHEMERAL_STORAGE}


def spec(amounts: dict[str, str]) -> TaskResourceSpec:
    return TaskResourceSpec(**{"ephemeral_storage" if name == "disk" else name: text for name, text in amounts.items()})


def entries(amounts: dict[str, str]) -> list[Resources.ResourceEntry]:
    return [Resources.ResourceEntry(name=NAMES[name], value=text) for name, text in amounts.items()]


def amounts_of(resources: Resources) -> dict[str, tuple[str, str]]:
    names = {number: name for name, number in NAMES.items()}
    limits = {entry.name: entry.value for entry in resources.limits}
    return {names[entry.name]: (entry.value, limits[entry.name]) for entry in resources.requests}


# requests, limits, platform defaults, platform limits > request and limit of each
CASES: dict[str, tuple[dict[str, str], dict[str, str], dict[str, str], dict[str, str], dict[str, tuple[str, str]]]] = {
    "nothing set": ({}, {}, {}, {}, {"cpu": ("0", "0"), "memory": ("0", "0")}),
    "defaults": (
        {},
        {},
        {"cpu": "500m", "memory": "200Mi"},
        {},
        {"cpu": ("500m", "500m"), "memory": ("200Mi", "200Mi")},
    ),
    "a request is its own limit": (
        {"cpu": "1", "memory": "1Gi"},
        {},
        {"cpu": "2", "memory": "2Gi"},
        {},
        {"cpu": ("1", "1"), "memory": ("1Gi", "1Gi")},
    ),
    "a limit is its own request": (
        {},
        {"cpu": "3", "memory": "3Gi"},
        {"cpu": "2", "memory": "2Gi"},
        {},
        {"cpu": ("3", "3"), "memory": ("3Gi", "3Gi")},
    ),
    "both": (
        {"cpu": "1", "memory": "1Gi"},
        {"cpu": "2", "memory": "2Gi"},
        {},
        {"cpu": "4", "memory": "4Gi"},
        {"cpu": ("1", "2"), "memory": ("1Gi", "2Gi")},
    ),
    "the platform's limit limits both": (
        {"cpu": "5", "memory": "5Gi"},
        {"cpu": "6", "memory": "6Gi"},
        {},
        {"cpu": "4", "memory": "4Gi"},
        {"cpu": ("4", "4"), "memory": ("4Gi", "4Gi")},
    ),
    "defaults above the platform's limit": (
        {},
        {},
        {"cpu": "8", "memory": "8Gi"},
        {"cpu": "4", "memory": "4Gi"},
        {"cpu": ("4", "4"), "memory": ("4Gi", "4Gi")},
    ),
    "a request above its own limit": (
        {"cpu": "3", "memory": "300Mi"},
        {"cpu": "2", "memory": "200Mi"},
        {},
        {},
        {"cpu": ("2", "2"), "memory": ("200Mi", "200Mi")},
    ),
    "zero is none": (
        {"cpu": "0", "memory": "0"},
        {},
        {"cpu": "1", "memory": "1Gi"},
        {"cpu": "0", "memory": ""},
        {"cpu": ("1", "1"), "memory": ("1Gi", "1Gi")},
    ),
    "no quantity is none": (
        {"cpu": "many", "memory": "1Gi"},
        {"cpu": "1"},
        {"cpu": "lots"},
        {"cpu": "all"},
        {"cpu": ("1", "1"), "memory": ("1Gi", "1Gi")},
    ),
    "in Kubernetes' form": (
        {"cpu": "0.5", "memory": "1024Mi"},
        {"cpu": "1.5"},
        {},
        {},
        {"cpu": ("500m", "1500m"), "memory": ("1Gi", "1Gi")},
    ),
    "gpu and disk only when they are set": (
        {"gpu": "1"},
        {"disk": "1Gi"},
        {"cpu": "1", "memory": "1Gi"},
        {"gpu": "8", "disk": "500Mi"},
        {"cpu": ("1", "1"), "memory": ("1Gi", "1Gi"), "disk": ("500Mi", "500Mi"), "gpu": ("1", "1")},
    ),
    "gpu and disk set by a default": (
        {},
        {},
        {"cpu": "1", "memory": "1Gi", "disk": "1Gi", "gpu": "1"},
        {},
        {"cpu": ("1", "1"), "memory": ("1Gi", "1Gi"), "disk": ("1Gi", "1Gi"), "gpu": ("1", "1")},
    ),
    "a limit of the platform sets none": (
        {},
        {},
        {"cpu": "1", "memory": "1Gi"},
        {"gpu": "1", "disk": "1Gi"},
        {"cpu": ("1", "1"), "memory": ("1Gi", "1Gi")},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_container_resources_follow_task_and_platform(case: str) -> None:
    requests, limits, defaults, ceilings, expected = CASES[case]
    requested = Resources(requests=entries(requests), limits=entries(limits))
    platform = TaskResourceAttributes(defaults=spec(defaults), limits=spec(ceilings))
    assert amounts_of(container_resources(requested, platform)) == expected


def acting(**kinds: object) -> bytes:
    configurations = [
        MatchableAttributesConfiguration(attributes=MatchingAttributes(**{kind: value}))  # type: ignore[arg-type]
        for kind, value in kinds.items()
    ]
    return ListMatchableAttributesResponse(configurations=configurations).SerializeToString()


def test_engine_inputs_without_attributes_are_those_of_the_settings() -> None:
    settings = SETTINGS.model_copy(
        update={
            "task_resource_defaults": ResourceAmounts(cpu="1", ephemeral_storage="1Gi"),
            "queue_tags": {"production": ["fast"], "": ["slow"]},
        }
    )
    inputs = engine_inputs(b"", "production", settings)
    assert inputs.task_resources == TaskResourceAttributes(
        defaults=TaskResourceSpec(cpu="1", ephemeral_storage="1Gi"),
        limits=TaskResourceSpec(cpu="2", memory="1Gi", gpu="1"),
    )
    assert inputs == EngineInputs(platform_resources(settings), queue_tags=("fast",))
    assert engine_inputs(b"", "staging", settings).queue_tags == ("slow",)


def test_stored_amount_that_cannot_be_parsed_is_replaced_by_the_settings() -> None:
    stored = acting(
        task_resource_attributes=TaskResourceAttributes(
            defaults=TaskResourceSpec(cpu="few", memory="1Gi"), limits=TaskResourceSpec(cpu="many", gpu="-1")
        )
    )
    assert engine_inputs(stored, "development", SETTINGS).task_resources == TaskResourceAttributes(
        defaults=TaskResourceSpec(cpu="2", memory="1Gi"), limits=TaskResourceSpec(cpu="2", gpu="1")
    )


@pytest.mark.parametrize(("name", "value"), [("DEFAULTS__CPU", "few"), ("LIMITS__GPU", "-1"), ("LIMITS__MEMORY", "Gi")])
def test_setting_that_is_no_amount_prevents_the_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("FLYTEPLANE_SIGNING_KEY", "key")
    monkeypatch.setenv(f"FLYTEPLANE_TASK_RESOURCE_{name}", value)
    with pytest.raises(SystemExit, match=rf"^wrong settings: task_resource_{name.lower().replace('__', '.')}: "):
        load(Settings)


def test_attributes_replace_the_settings_whole() -> None:
    resources = TaskResourceAttributes(defaults=TaskResourceSpec(memory="1Gi"))
    override = PluginOverride(task_type="spark", plugin_id=["own"])
    settings = SETTINGS.model_copy(update={"queue_tags": {"": ["slow"]}})
    stored = acting(
        task_resource_attributes=resources,
        execution_queue_attributes=ExecutionQueueAttributes(tags=["a", "b"]),
        plugin_overrides=PluginOverrides(overrides=[override]),
        cluster_resource_attributes=ClusterResourceAttributes(attributes={"quota": "9"}),
    )
    assert engine_inputs(stored, "production", settings) == EngineInputs(
        resources, ("a", "b"), (override,), {"quota": "9"}
    )


@pytest.mark.parametrize(
    ("tags", "queue"), [([], ""), (["none"], ""), (["none", "gpu", "fast"], "q2"), (["fast"], "q1"), (["gpu"], "q2")]
)
def test_child_queue_has_the_first_tag_that_a_queue_has(tags: list[str], queue: str) -> None:
    queues = {"q1": ["fast"], "q3": ["fast"], "q2": ["gpu"]}
    assert child_queue(tags, queues, lambda tagged: tagged[0]) == queue


def test_prepared_container_has_resources_and_queue_and_no_other_change() -> None:
    platform = TaskResourceAttributes(defaults=TaskResourceSpec(cpu="1", memory="1Gi"))
    task = TaskTemplate(type="python-task", container=Container(image="i", config=[{"key": "a", "value": "b"}]))
    run = prepared(task, platform, "q")
    assert amounts_of(run.container.resources) == {"cpu": ("1", "1"), "memory": ("1Gi", "1Gi")}
    assert [(pair.key, pair.value) for pair in run.container.config] == [("a", "b"), ("child_queue", "q")]
    assert [(pair.key, pair.value) for pair in prepared(task, platform, "").container.config] == [("a", "b")]
    assert not task.container.HasField("resources")
    run.container.ClearField("resources")
    del run.container.config[1:]
    assert run == task


def test_prepared_task_without_a_container_is_unchanged() -> None:
    platform = TaskResourceAttributes(defaults=TaskResourceSpec(cpu="1"))
    for task in (TaskTemplate(type="sql"), TaskTemplate(k8s_pod=K8sPod())):
        assert prepared(task, platform, "q") == task
