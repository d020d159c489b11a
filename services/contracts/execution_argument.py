"""Arguments of commands that name an execution: project/domain/name."""

import argparse
from typing import NamedTuple, Self


class ExecutionName(NamedTuple):
    """The parts that identify an execution."""

    project: str
    domain: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `project/domain/name`; raise ValueError."""
        parts = text.split("/")
        if len(parts) != len(cls._fields) or not all(parts):
            raise ValueError(f"{text!r} is no project/domain/name")
        return cls(*parts)


def execution_argument(text: str) -> ExecutionName:
    """Read an argument that names an execution; raise ArgumentTypeError."""
    try:
        return ExecutionName.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
