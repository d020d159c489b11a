"""Workflows that the local engine runs in the tests: chains, values of every kind, errors."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from flytekit import FlyteDirectory, FlyteFile, Resources, Secret, current_context, dynamic, map_task, task, workflow
from flytekit.exceptions.user import FlyteRecoverableException

SMALL = Resources(cpu="200m", mem="50Mi")


class Fruit(Enum):
    """A fruit."""

    APPLE = "apple"
    PEAR = "pear"


@dataclass
class Basket:
    """Fruit with its weight."""

    fruit: Fruit
    weights: list[float]


class Sums(NamedTuple):
    """The outputs of `chain`."""

    total: int
    text: str


@task(requests=SMALL)
def double(n: int) -> int:
    """Return twice `n`."""
    return 2 * n


@task(requests=SMALL)
def add(a: int, b: int) -> int:
    """Return the sum."""
    return a + b


@task(requests=SMALL)
def describe(total: int, unit: str) -> str:
    """Return a number with its unit."""
    return f"{total} {unit}"


@workflow
def chain(n: int = 3, unit: str = "Äpfel 🍏") -> Sums:
    """Fan out and in."""
    total = add(a=double(n=n), b=double(n=n))
    return Sums(total=total, text=describe(total=total, unit=unit))


@task(requests=SMALL)
def weigh(basket: Basket) -> tuple[Basket, float]:
    """Return a heavier basket and its weight."""
    heavier = Basket(basket.fruit, [*basket.weights, 1.5])
    return heavier, sum(heavier.weights)


@task(requests=SMALL)
def write(text: str) -> tuple[FlyteFile, FlyteDirectory]:
    """Write a file, and a folder with the same file."""
    folder = Path(current_context().working_directory, "folder")
    folder.mkdir(parents=True)
    file = folder / "täxt.txt"
    file.write_text(text)
    return FlyteFile(str(file)), FlyteDirectory(str(folder))


@task(requests=SMALL)
def read(file: FlyteFile, folder: FlyteDirectory) -> str:
    """Return what is in both."""
    names = [each.name for each in Path(folder.download()).iterdir()]
    return Path(file.download()).read_text() + "+" + ",".join(names)


@workflow
def values(text: str = "ü\n") -> tuple[float, str]:
    """Pass a dataclass, an enum, a file and a folder on."""
    _, weight = weigh(basket=Basket(Fruit.PEAR, [0.5]))
    file, folder = write(text=text)
    return weight, read(file=file, folder=folder)


@task(requests=SMALL)
def raises(n: int) -> int:
    """Raise."""
    if n:
        raise ValueError(f"there is no fruit {n}")
    return n


@workflow
def failing(n: int = 7) -> int:
    """Fail in the second task."""
    return raises(n=double(n=n))


@task(requests=SMALL, retries=3)
def third_time(n: int) -> int:
    """Succeed at the third attempt."""
    attempt = int(os.environ["FLYTE_ATTEMPT_NUMBER"])
    print(f"this is attempt {attempt}")
    if attempt < 2:
        raise FlyteRecoverableException("not yet")
    return n + attempt


@workflow
def retried(n: int = 1) -> int:
    """Retry."""
    return third_time(n=n)


@task(requests=SMALL)
def dies() -> None:
    """End by a signal."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


@workflow
def killed() -> None:
    """Have a task that is killed."""
    dies()


@task(requests=SMALL)
def forks(file: str) -> int:
    """Leave a child that has left the session."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    Path(file).write_text(str(child.pid))
    return child.pid


@workflow
def forking(file: str) -> int:
    """Leave a child."""
    return forks(file=file)


@task(requests=SMALL)
def square(n: int) -> int:
    """Return the square."""
    return n * n


@workflow
def mapped(n: list[int]) -> list[int]:
    """Map a task."""
    return map_task(square)(n=n)


@dynamic(requests=SMALL)
def as_many(n: int) -> list[int]:
    """Run a task for each number below `n`."""
    return [square(n=i) for i in range(n)]


@workflow
def grown(n: int = 3) -> list[int]:
    """Run a dynamic task."""
    return as_many(n=n)


@task(requests=SMALL, secret_requests=[Secret("db", "password", mount_requirement=Secret.MountType.FILE)])
def unlock() -> str:
    """Return a secret."""
    return current_context().secrets.get("db", "password")


@workflow
def unlocked() -> str:
    """Read a secret."""
    return unlock()


@task(requests=SMALL, secret_requests=[Secret("db", "gone")])
def unlock_nothing() -> str:
    """Return a secret that is missing."""
    return current_context().secrets.get("db", "gone")


@workflow
def locked() -> str:
    """Read a secret that is missing."""
    return unlock_nothing()


@task(requests=SMALL)
def sleeps(seconds: float, file: str) -> float:
    """Count a call in a file, and sleep."""
    with Path(file).open("a") as log:
        log.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return seconds


@workflow
def slow(seconds: float, file: str) -> float:
    """Sleep."""
    return sleeps(seconds=seconds, file=file)
