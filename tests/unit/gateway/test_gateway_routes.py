"""The routing table fits flyteidl, and the message about one that does not names the fault."""

from collections import Counter

import pytest

from gateway import descriptors, routes

TABLE = routes.TABLE.read_text()
ADMIN = "flyteidl.service.AdminService"


def test_every_method_of_flyteidl_has_one_owner() -> None:
    named = Counter(method.name for method in routes.load().methods)
    assert named.keys() == descriptors.methods()
    assert set(named.values()) == {1}


def test_owners_are_those_of_the_architecture() -> None:
    owners = Counter(method.owner for method in routes.load().methods if method.name.startswith(ADMIN))
    assert owners == {"registry": 20, "executions": 17, "projects": 16, "events": 3}


@pytest.mark.parametrize(
    ("here", "instead", "message"),
    [
        ('"GetTask", ', "", f"{ADMIN}/GetTask: no owner"),
        ('"GetDomains", ', '"GetDomains", "GetTask", ', f"{ADMIN}/GetTask: named 2 times"),
        ('"GetTask", ', '"GetTask", "GetTask", ', f"{ADMIN}/GetTask: named 2 times"),
        ('"GetTask", ', '"GetTask", "MakeCoffee", ', f"{ADMIN}/MakeCoffee: not a method of flyteidl"),
        ("SignalService", "CoffeeService", "flyteidl.service.SignalService/SetSignal: no owner"),
        ('unknown_methods = "registry"', 'unknown_methods = "none"', "unknown_methods: no owner is called none"),
        ('health = "registry"', 'health = ""', "health: no owner is called"),
    ],
)
def test_table_that_does_not_fit_is_refused_with_the_name_of_the_fault(here: str, instead: str, message: str) -> None:
    assert here in TABLE
    with pytest.raises(routes.RoutesError, match=message):
        routes.load(TABLE.replace(here, instead))


def test_message_names_all_faults() -> None:
    with pytest.raises(routes.RoutesError) as caught:
        routes.load(TABLE.replace('"GetTask", ', "").replace('"GetDomains", ', '"MakeCoffee", '))
    assert len(str(caught.value).splitlines()) == 3


def test_write_is_not_retried_when_a_service_may_have_begun_with_it() -> None:
    begun = {"5xx", "gateway-error", "reset", "unavailable", "internal", "cancelled", "deadline-exceeded"}
    assert not begun & set(routes.load().retries["write"].on)


def test_method_that_changes_something_is_a_write() -> None:
    changing = ("Create", "Update", "Delete", "Register", "Relaunch", "Recover", "Terminate", "Set", "GetOrCreate")
    only_sign = {"CreateDownloadLocation", "CreateDownloadLink"}
    for method in routes.load().methods:
        name = method.name.rpartition("/")[2]
        assert (method.kind == "write") == (name.startswith(changing) and name not in only_sign), name


def test_time_limits_are_above_those_of_the_clients() -> None:
    for owner, timeout in routes.load().timeouts.items():
        assert float(timeout.removesuffix("s")) > 15, owner
