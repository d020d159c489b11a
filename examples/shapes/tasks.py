"""Tasks: with every option of the decorator, and tasks that are no Python function."""

from datetime import timedelta
from typing import Any, NamedTuple

from flytekit import (
    Cache,
    ContainerTask,
    Description,
    Documentation,
    PythonFunctionTask,
    Resources,
    Secret,
    SourceCode,
    SQLTask,
    eager,
    kwtypes,
    task,
)
from flytekit.configuration import SerializationSettings
from flytekit.core.base_task import TaskMetadata
from flytekit.extend import TaskPlugins
from flytekit.extras.accelerators import T4
from flytekit.extras.tasks.shell import OutputLocation, ShellTask
from flytekit.models.task import K8sObjectMetadata, K8sPod, Sql
from flytekit.types.file import FlyteFile


class Quotient(NamedTuple):
    """Two outputs, with names."""

    quotient: int
    remainder: int


@task
def documented(a: int, b: int = 2) -> int:
    """Product of two numbers.

    The long description: what comes after the first line.

    Args:
        a: one number
        b: the other
    """
    return a * b


@task(
    docs=Documentation(
        short_description="A sum",
        long_description=Description(value="**Adds**, and no more", format=Description.DescriptionFormat.MARKDOWN),
        source_code=SourceCode(link="https://example.org/sum.py"),
    )
)
def described(a: int, b: int) -> int:
    """The first line here has priority over the decorator's description."""
    return a + b


@task
def divide(a: int, b: int) -> Quotient:
    """A task with two outputs."""
    return Quotient(*divmod(a, b))


@task
def silent() -> None:
    """A task without inputs and outputs."""


@task(cache=Cache(version="1", serialize=True, ignored_inputs=("seed",)))
def cached(a: int, seed: int) -> int:
    """A cached task, one run at a time; one of its inputs does not count for the cache."""
    return a + seed


@task(
    retries=3,
    timeout=timedelta(minutes=5),
    interruptible=True,
    deprecated="use another",
    environment={"LEVEL": "debug"},
    container_image="ghcr.io/example/tools:1.0",
    requests=Resources(cpu="500m", mem="200Mi", ephemeral_storage="100Mi"),
    limits=Resources(cpu="1", mem="400Mi", ephemeral_storage="200Mi"),
    secret_requests=[
        Secret(group="database", key="password"),
        Secret(group="bucket", key="token", mount_requirement=Secret.MountType.FILE, env_var="TOKEN_FILE"),
    ],
    enable_deck=True,
    labels={"team": "a"},
    annotations={"note": "b"},
)
def demanding(a: int) -> int:
    """A task with every option of the decorator."""
    return a


@task(requests=Resources(gpu="1"), limits=Resources(gpu="1"), accelerator=T4, shared_memory="128Mi")
def accelerated(a: int) -> int:
    """A task on an accelerator."""
    return a


@task(pod_template_name="a-template-of-the-cluster")
def templated(a: int) -> int:
    """A task with a pod template of the cluster."""
    return a


@eager
async def waiting(a: int) -> int:
    """A task that launches tasks while it runs."""
    return await documented(a=a)


class Pod:
    """The configuration of a task with a pod of its own."""


class PodTask(PythonFunctionTask[Pod]):
    """A task in a pod, as a plugin makes it; flytekit's PodTemplate, of the same form, needs the kubernetes package."""

    def get_container(self, settings: SerializationSettings) -> None:
        """Return nothing: the pod has the containers."""

    def get_k8s_pod(self, settings: SerializationSettings) -> K8sPod:
        """Return a pod with two containers."""
        main: dict[str, Any] = {
            "name": "primary",
            "image": self.get_image(settings),
            "args": self.get_default_command(settings),
            "resources": {"requests": {"cpu": "1", "memory": "200Mi"}, "limits": {"cpu": "1", "memory": "200Mi"}},
        }
        sidecar = {"name": "sidecar", "image": "busybox", "command": ["sleep", "60"]}
        return K8sPod(
            metadata=K8sObjectMetadata(labels={"team": "a"}, annotations={"note": "b"}),
            pod_spec={"containers": [main, sidecar], "restartPolicy": "Never"},
            primary_container_name="primary",
        )

    def get_config(self, settings: SerializationSettings) -> dict[str, str]:
        """Return the name of the main container, as older versions do."""
        return {"primary_container_name": "primary"}


TaskPlugins.register_pythontask_plugin(Pod, PodTask)


@task(task_config=Pod())
def in_a_pod(a: int) -> int:
    """A task in a pod of its own."""
    return a


area = ContainerTask(
    name="shapes.tasks.area",
    image="ghcr.io/example/area:1.0",
    command=["area", "{{.inputs.a}}", "{{.inputs.b}}"],
    arguments=["/var/outputs"],
    inputs=kwtypes(a=float, b=float),
    outputs=kwtypes(area=float),
    input_data_dir="/var/inputs",
    output_data_dir="/var/outputs",
    metadata_format=ContainerTask.MetadataFormat.YAML,
    metadata=TaskMetadata(retries=2, cache=True, cache_version="2"),
    requests=Resources(cpu="1"),
    secret_requests=[Secret(group="registry", key="token")],
)

count_lines = ShellTask(
    name="shapes.tasks.count_lines",
    script="wc -l < {inputs.text} > {outputs.count}",
    inputs=kwtypes(text=FlyteFile),
    output_locs=[OutputLocation(var="count", var_type=FlyteFile, location="count.txt")],
)


class Query(SQLTask[None]):
    """A task without a container: the engine runs the statement where the data is."""

    def get_sql(self, settings: SerializationSettings) -> Sql:
        """Return the statement unchanged."""
        return Sql(statement=self.query_template, dialect=Sql.Dialect.ANSI)


query = Query(
    name="shapes.tasks.query",
    query_template="SELECT * FROM a WHERE b = {{ .inputs.b }}",
    inputs=kwtypes(b=int),
    outputs=kwtypes(found=str),
)
