"""Settings that limit what may be registered."""

from contextlib import nullcontext

import pytest

from services.contracts.workflow_settings import TaskLimits
from services.kit.errors import InvalidArgument
from services.kit.process.settings import load
from services.registry.config import Settings, WhitelistScope
from services.registry.rules.workflows import WorkflowLimits, check_size


def test_defaults_are_those_of_flyteadmin() -> None:
    settings = Settings()
    assert settings.task_resource_limits == TaskLimits(cpu="2", memory="1Gi", gpu="1", ephemeral_storage="")
    assert settings.max_workflow_nodes == 100
    assert settings.metadata_storage_prefix == "metadata/admin"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("TASK_RESOURCE_LIMITS__CPU", value) for value in ("two", "-1", "m")),
        ("TASK_RESOURCE_LIMITS__EPHEMERAL_STORAGE", "1 Gi"),
        ("MAX_WORKFLOW_BYTES", "10MB"),
    ],
)
def test_limit_that_is_no_amount_is_refused_at_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"FLYTEPLANE_{name}", value)
    with pytest.raises(SystemExit, match=rf"^wrong settings: {name.lower().replace('__', '.')}: "):
        load(Settings)


def test_limits_and_whitelist_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTEPLANE_TASK_RESOURCE_LIMITS__CPU", "16")
    monkeypatch.setenv("FLYTEPLANE_TASK_TYPE_WHITELIST", '{"spark": [{"project": "p", "domain": "d"}]}')
    settings = load(Settings)
    assert settings.task_resource_limits == TaskLimits(cpu="16")
    assert settings.task_type_whitelist == {"spark": [WhitelistScope(project="p", domain="d")]}


@pytest.mark.parametrize(("size", "most", "fits"), [(10, 10, True), (11, 10, False), (2**40, 0, True)])
def test_compiled_workflow_has_at_most_the_bytes_of_the_setting(size: int, most: int, fits: bool) -> None:
    refusal = pytest.raises(InvalidArgument, match=rf"^Workflow closure size exceeds max limit \[{most} bytes\]$")
    with nullcontext() if fits else refusal:
        check_size(size, WorkflowLimits(nodes=0, closure_bytes=most))
