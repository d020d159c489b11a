"""Invalid configurations of executions, for requests, launch plans and attributes."""

from typing import Any, TypeVar

import pytest
from flyteidl.admin.common_pb2 import Annotations, Envs, Labels
from flyteidl.core.literals_pb2 import KeyValuePair
from flyteidl.core.security_pb2 import Identity, Secret, SecurityContext

from services.contracts.execution_config import ConfigLevel

Config = TypeVar("Config", bound=ConfigLevel)


def configured(config: Config, field: str, value: Any) -> Config:
    """Return `config` with a field set."""
    if isinstance(value, int):
        setattr(config, field, value)
    else:
        getattr(config, field).CopyFrom(value)
    return config


def _env(name: str) -> Envs:
    return Envs(values=[KeyValuePair(key="GOOD", value="a=b"), KeyValuePair(key=name)])


BAD = [
    pytest.param(field, value, text, id=f"{field}-{number}")
    for number, (field, value, text) in enumerate(
        [
            ("labels", Labels(values={"a b": "c"}), "invalid label key [a b]: [name part must consist of"),
            ("labels", Labels(values={"a": "c d"}), "invalid label value [c d]: [a valid label must be"),
            ("labels", Labels(values={f"k{i}": "" for i in range(17)}), "labels map cannot exceed 16 entries"),
            ("annotations", Annotations(values={"a b": "c"}), "invalid annotation key [a b]: [name part must"),
            ("annotations", Annotations(values={"k": "v" * 2**18}), "annotations size 262145 is larger than limit"),
            ("envs", _env(""), "invalid environment variable name []: [environment variable name must be non-empty]"),
            ("envs", _env("A=B"), "invalid environment variable name [A=B]: [a valid environment variable name must"),
            ("envs", _env("Ä"), "invalid environment variable name [Ä]: ["),
            ("envs", _env("A\0"), "invalid environment variable name [A\0]: ["),
            ("max_parallelism", -1, "invalid value for max_parallelism"),
            (
                "security_context",
                SecurityContext(run_as=Identity(k8s_service_account="not good")),
                "invalid service account name [not good]: [a lowercase RFC 1123 subdomain must",
            ),
            (
                "security_context",
                SecurityContext(secrets=[Secret(group="g", key="k", env_var="A=B")]),
                "invalid environment variable name [A=B]: [",
            ),
        ]
    )
]
"""Field, value, beginning of the message."""

GOOD: list[tuple[str, Any]] = [
    ("labels", Labels(values={"example.com/a": "", "b": "C_d"})),
    ("annotations", Annotations(values={"Example.com/A": "any text\n", "b": ""})),
    ("envs", _env("my.env-name 1")),
    ("max_parallelism", 0),
    ("max_parallelism", 2**31 - 1),
    ("security_context", SecurityContext()),
    (
        "security_context",
        SecurityContext(
            run_as=Identity(k8s_service_account="a.b-1", iam_role="arn:aws:iam::1:role/R", execution_identity="Ann B"),
            secrets=[Secret(group="G_1", key="k"), Secret(key="k", env_var="MY_VAR")],
        ),
    ),
]
