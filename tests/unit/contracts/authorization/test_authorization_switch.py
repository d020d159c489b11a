"""Authorisation as a service has it: off, by a file, and by a file that changes or is wrong."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.contracts.authorization.switch import Authorization
from services.kit.errors import InvalidArgument, PermissionDenied
from services.kit.process.settings import ProcessSettings
from services.kit.process.watched_file import WatchedFile
from tests.support.authorization import binding, named, policy_text, request_of
from tests.support.callers import SECRET

PATH = "/flyteidl.service.AdminService/GetTask"


def settings(**fields: Any) -> ProcessSettings:
    return ProcessSettings(gateway_secret=SECRET, **fields)


def test_without_a_policy_every_caller_may_do_everything() -> None:
    authorization = Authorization.of(settings())
    assert authorization.hook is None
    assert authorization.loops == ()


def test_policy_decides_and_is_read_again(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(policy_text(binding("viewer", subjects=["ann"])))
    authorization = Authorization.of(settings(authorization_policy=policy))
    assert authorization.hook is not None
    (loop,) = authorization.loops
    file = loop.__self__  # type: ignore[attr-defined]  # the method of a WatchedFile
    assert isinstance(file, WatchedFile)
    assert authorization.hook(PATH, request_of(PATH), named("ann")) == "viewer"
    policy.write_text("bindings: [wrong]")
    file.read_again()
    assert authorization.hook(PATH, request_of(PATH), named("ann")) == "viewer"
    policy.write_text(policy_text(binding("viewer", subjects=["bob"])))
    file.read_again()
    with pytest.raises(PermissionDenied):
        authorization.hook(PATH, request_of(PATH), named("ann"))


def test_wrong_policy_stops_the_start(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("bindings: [{role: owner, everyone: true, projects: [a]}]")
    with pytest.raises(InvalidArgument, match=r"bindings\.0\.role"):
        Authorization.of(settings(authorization_policy=policy))


def test_policy_needs_the_secret_of_the_gateway(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.touch()
    with pytest.raises(ValidationError, match="authorization_policy needs gateway_secret"):
        ProcessSettings(authorization_policy=policy)
