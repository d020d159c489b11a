"""Workflows: nodes of every kind but launch plans, in every order."""

from datetime import timedelta
from functools import partial

from flytekit import (
    Annotations,
    Cache,
    Description,
    Documentation,
    Labels,
    Options,
    Resources,
    Workflow,
    WorkflowFailurePolicy,
    approve,
    conditional,
    dynamic,
    map_task,
    sleep,
    task,
    wait_for_input,
    workflow,
)
from flytekit.core.node_creation import create_node
from flytekit.extras.accelerators import T4
from flytekit.types.error import FlyteError

from shapes.tasks import area, cached, described, divide, documented, in_a_pod, silent
from shapes.types import Drawing, Point

LARGE, SMALL, HALF = 10, 2, 0.5


@task
def echo(text: str) -> str:
    """Return the text."""
    return text


@task
def total(numbers: list[int]) -> int:
    """Return the sum."""
    return sum(numbers)


@task
def shown(point: Point, x: float, label: str) -> str:
    """Return parts of a dataclass as text."""
    return f"{label}: {point.x + x}"


@task
def flip() -> bool:
    """Return true."""
    return True


@workflow
def inner(a: int, b: int = 7) -> tuple[int, int]:
    """A workflow that others contain."""
    product = documented(a=a, b=b)
    return product, described(a=product, b=a)


@workflow
def middle(a: int) -> int:
    """A workflow that contains one and is contained in one."""
    first, second = inner(a=a)
    return described(a=first, b=second)


@workflow(
    docs=Documentation(
        short_description="Workflows in workflows",
        long_description=Description(value="Three *deep*", format=Description.DescriptionFormat.MARKDOWN),
    ),
    interruptible=True,
    failure_policy=WorkflowFailurePolicy.FAIL_AFTER_EXECUTABLE_NODES_COMPLETE,
    default_options=Options(labels=Labels({"team": "a"}), annotations=Annotations({"note": "b"})),
)
def nested(a: int = 3) -> int:
    """The first line here has priority over the decorator's description."""
    first, _ = inner(a=a, b=2)
    return described(a=middle(a=first), b=1)


@workflow
def parts(drawing: Drawing, numbers: list[int], names: dict[str, str]) -> str:
    """Parts of values: of a dataclass, a list, a map, and of a dataclass within a list."""
    echo(text=names["first"])
    documented(a=numbers[0])
    return shown(point=drawing.points[0], x=drawing.points[1].x, label=drawing.name)


@workflow
def branched(a: int, b: float) -> str:
    """Conditions of every form, one inside another, with an error and with a default."""
    amount = (
        conditional("amount").if_((b >= HALF) & (b != 1.0)).then(echo(text="much")).else_().then(echo(text="little"))
    )
    yes = flip()
    conditional("sure").if_(yes.is_true()).then(echo(text="yes")).else_().fail("never")
    conditional("below").if_((a < 0) | (b < 0.0)).then(middle(a=a)).elif_(a == 0).then(documented(a=a)).else_().then(
        described(a=a, b=1)
    )
    return (
        conditional("many")
        .if_(a > LARGE)
        .then(echo(text=amount))
        .elif_(a <= SMALL)
        .then(conditional("few").if_(a == 1).then(echo(text="one")).else_().then(echo(text="two")))
        .else_()
        .fail("neither")
    )


@workflow
def mapped(numbers: list[int], factor: int) -> int:
    """The same task over lists: bound to a value, tolerating failures, with resources of its own."""
    products = map_task(partial(documented, b=factor), concurrency=4)(a=numbers)
    maybe = map_task(documented, min_success_ratio=0.75)(a=numbers, b=products)
    again = map_task(cached, metadata=None)(a=numbers, seed=numbers).with_overrides(
        requests=Resources(cpu="1", mem="300Mi"), retries=2
    )
    counted(numbers=maybe)
    return total(numbers=again)


@task
def counted(numbers: list[int | None]) -> int:
    """Return the number of items."""
    return len(numbers)


@dynamic(node_dependency_hints=[middle], cache=Cache(version="1"), retries=1)
def unrolled(count: int) -> list[int]:
    """A workflow that is made at run time."""
    return [middle(a=index) for index in range(count)]


@workflow
def ordered(a: int) -> int:
    """Nodes that wait for one another without passing a value, and that override settings of their task."""
    first = create_node(silent)
    second = create_node(echo, text="second").with_overrides(
        node_name="second", name="The second", timeout=timedelta(minutes=1)
    )
    third = create_node(divide, a=a, b=2)
    first >> second
    second >> third
    pod = in_a_pod(a=third.quotient).with_overrides(
        requests=Resources(cpu="500m"),
        limits=Resources(cpu="1"),
        accelerator=T4,
        interruptible=False,
        retries=4,
        container_image="ghcr.io/example/other:2.0",
        cache=Cache(version="3", serialize=True),
    )
    area(a=1.5, b=2.5)
    return total(numbers=unrolled(count=pod))


@task
def clean(a: int, err: FlyteError | None = None) -> None:
    """Clean up."""


@workflow
def clean_all(a: int, err: FlyteError | None = None) -> None:
    """Clean up, as a workflow."""
    clean(a=a, err=err)


@workflow(on_failure=clean)
def guarded(a: int) -> int:
    """A task runs when this fails."""
    return documented(a=a)


@workflow(on_failure=clean_all)
def guarded_by_a_workflow(a: int) -> int:
    """A workflow runs when this fails."""
    return guarded(a=a)


@workflow
def gated(a: int) -> str:
    """A workflow that waits for a person's input."""
    product = documented(a=a)
    title = wait_for_input("title", timeout=timedelta(hours=1), expected_type=str)
    points = wait_for_input("points", timeout=timedelta(hours=1), expected_type=list[float])
    agreed = approve(product, "agreed", timeout=timedelta(hours=2))
    waited = sleep(timedelta(seconds=10))
    result = echo(text=title)
    agreed >> waited
    points >> waited
    waited >> result
    return result


built = Workflow(name="shapes.flows.built")
built.add_workflow_input("a", int)
built.add_workflow_input("others", list[int])
_first = built.add_entity(documented, a=built.inputs["a"], b=5)
_second = built.add_entity(total, numbers=[_first.outputs["o0"], built.inputs["a"]])
_third = built.add_entity(inner, a=_second.outputs["o0"], b=1)
built.add_entity(silent)
built.add_workflow_output("sum", _second.outputs["o0"])
built.add_workflow_output("both", [_third.outputs["o0"], _third.outputs["o1"]], python_type=list[int])
