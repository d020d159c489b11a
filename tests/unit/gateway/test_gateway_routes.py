"""The routing table fits flyteidl, and one that does not is refused by name."""

from collections import Counter

import pytest

from gateway import descriptors, routes

TABLE = routes.TABLE.read_text()
ADMIN = "flyteidl.service.AdminService"


def test_every_method_of_flyteidl_has_one_owner() -> None:
    named = Counter(method.name for method in routes.load().methods)
    assert named.keys() == descriptors.methods()
    assert set(named.values()) == {1}


def test_the_owners_are_those_of_the_architecture() -> None:
    owners = Counter(method.owner for method in routes.load().methods if method.name.startswith(ADMIN))
    assert owners == {"registry": 20, "executions": 17, "projects": 16, "events": 3}


@pytest.mark.parametrize(
    ("here", "instead", "complaint"),
    [
        ('"GetTask", ', "", f"{ADMIN}/GetTask: no owner"),
        ('"GetDomains", ', '"GetDomains", "GetTask", ', f"{ADMIN}/GetTask: named 2 times"),
        ('"GetTask", ', '"GetTask", "GetTask", ', f"{ADMIN}/GetTask: named 2 times"),
        ('"GetTask", ', '"GetTask", "MakeCoffee", ', f"{ADMIN}/MakeCoffee: not a method of flyteidl"),
        ("SignalService", "KitchenService", "flyteidl.service.SignalService/SetSignal: no owner"),
        ('unknown_methods = "registry"', 'unknown_methods = "nobody"', "unknown_methods: no owner is called nobody"),
        ('health = "registry"', 'health = ""', "health: no owner is called"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_by_name(here: str, instead: str, complaint: str) -> None:
    assert here in TABLE
    with pytest.raises(routes.RoutesError, match=complaint):
        routes.load(TABLE.replace(here, instead))


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(routes.RoutesError) as caught:
        routes.load(TABLE.replace('"GetTask", ', "").replace('"GetDomains", ', '"MakeCoffee", '))
    assert len(str(caught.value).splitlines()) == 3


def test_no_write_is_repeated_after_a_service_may_have_begun_with_it() -> None:
    begun = {"5xx", "gateway-error", "reset", "unavailable", "internal", "cancelled", "deadline-exceeded"}
    assert not begun & set(routes.load().retries["write"].on)


def test_what_changes_something_is_a_write() -> None:
    changing = ("Create", "Update", "Delete", "Register", "Relaunch", "Recover", "Terminate", "Set", "GetOrCreate")
    only_sign = {"CreateDownloadLocation", "CreateDownloadLink"}
    for method in routes.load().methods:
        name = method.name.rpartition("/")[2]
        assert (method.kind == "write") == (name.startswith(changing) and name not in only_sign), name


def test_time_limits_lie_above_those_of_the_clients() -> None:
    for owner, timeout in routes.load().timeouts.items():
        assert float(timeout.removesuffix("s")) > 15, owner
