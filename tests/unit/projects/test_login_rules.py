"""What a browser's login keeps, and where it may end."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.errors import InvalidArgument, PermissionDenied
from services.projects.rules.login import (
    DEFAULT_TARGET,
    LOGIN_SECONDS,
    begin,
    checked_target,
    is_secret,
    new_secret,
    resume,
)

NOW = 1_800_000_000.0
OWN = "https://flyte.example"
CONSOLE = "https://console.example:8443"
ORIGINS = (OWN, CONSOLE)


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/console/projects/p?a=b&c=%2F#top",
        "/a//b",
        "/@evil.example",
        OWN,
        f"{OWN}/console",
        f"{OWN}?a",
        f"{CONSOLE}/select-project#x",
        "/" + "a" * 1023,
    ],
)
def test_own_paths_and_listed_origins_are_targets(target: str) -> None:
    assert checked_target(target, ORIGINS) == target


def test_no_target_is_the_default() -> None:
    assert checked_target("", ORIGINS) == DEFAULT_TARGET


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "\\/evil.example",
        "/\t/evil.example",
        "\t//evil.example",
        "/\n/evil.example",
        " //evil.example",
        "/ok\r\nSet-Cookie: a=b",
        "/ok\0",
        "/ü",
        "evil.example",
        "console",
        "https://evil.example",
        "http://flyte.example/",
        "HTTPS://flyte.example",
        "https:/flyte.example",
        "https:flyte.example",
        "//flyte.example",
        f"{OWN}.evil.example/",
        f"{OWN}@evil.example/",
        f"{OWN}:8080/",
        f"{OWN}:@evil.example/",
        f"{OWN}\\@evil.example/",
        "https://console.example/",
        "javascript:alert(1)",
        "data:text/html,x",
        "/" + "a" * 1024,
    ],
)
def test_other_places_are_no_targets(target: str) -> None:
    with pytest.raises(InvalidArgument, match="the redirect_url is neither"):
        checked_target(target, ORIGINS)


@given(st.text(alphabet="/\\\t\r\n :@.?#%ahttps", max_size=12))
def test_a_target_that_is_a_path_stays_at_the_gateway(text: str) -> None:
    try:
        target = checked_target(text, ())
    except InvalidArgument:
        return
    # As browsers read it: without tabs and line ends, a backslash is a slash.
    read = "".join(letter for letter in target if letter not in "\t\r\n").replace("\\", "/").strip()
    assert read.startswith("/")
    assert not read.startswith("//")


def test_a_login_is_resumed_by_its_state_in_its_browser() -> None:
    secret = new_secret()
    pending = begin(secret, "/console?a=b", NOW)
    assert resume(secret, pending.state, NOW + LOGIN_SECONDS) == pending
    assert pending.target == "/console?a=b"


def test_logins_of_one_browser_at_once_have_nothing_in_common() -> None:
    secret = new_secret()
    first, second = (begin(secret, "/", NOW) for _ in range(2))
    assert len({first.state, second.state, first.nonce, second.nonce, first.verifier, second.verifier}) == 6
    assert resume(secret, first.state, NOW) == first
    assert resume(secret, second.state, NOW) == second


def test_the_verifier_and_its_challenge_are_as_pkce_wants_them() -> None:
    pending = begin(new_secret(), "/", NOW)
    assert 43 <= len(pending.verifier) <= 128
    digest = hashlib.sha256(pending.verifier.encode()).digest()
    assert pending.challenge == base64.urlsafe_b64encode(digest).decode().rstrip("=")


@pytest.mark.parametrize("secret", ["", "short", "a" * 43, "a" * 44])
def test_another_browser_cannot_resume_a_login(secret: str) -> None:
    state = begin(new_secret(), "/", NOW).state
    with pytest.raises(PermissionDenied, match="did not begin in this browser"):
        resume(secret, state, NOW)


def test_a_login_ends_after_its_time() -> None:
    secret = new_secret()
    state = begin(secret, "/", NOW).state
    assert resume(secret, state, NOW - 1)  # by a replica whose clock is behind
    for moment in (NOW + LOGIN_SECONDS + 1, NOW - 61):
        with pytest.raises(PermissionDenied, match="more than 10 minutes"):
            resume(secret, state, moment)


@pytest.mark.parametrize("state", ["", ".", "a", "a.b", "a.b.c", "ü.ü", "e30.x", "." * 100, "\0"])
def test_a_state_that_was_not_made_here_is_refused(state: str) -> None:
    with pytest.raises(PermissionDenied, match="did not begin in this browser"):
        resume(new_secret(), state, NOW)


def test_a_state_with_another_target_is_refused() -> None:
    secret = new_secret()
    mine, other = begin(secret, "/mine", NOW).state, begin(secret, "/other", NOW).state
    swapped = f"{mine.partition('.')[0]}.{other.partition('.')[2]}"
    with pytest.raises(PermissionDenied, match="did not begin in this browser"):
        resume(secret, swapped, NOW)


def test_a_secret_is_recognized_by_its_form() -> None:
    assert is_secret(new_secret())
    assert not is_secret(new_secret()[:-1])
    assert not is_secret("ü" * 43)
