"""docs/authorization.md#rpcs has the table of the services, and its example is a policy."""

import re

from docs.authorization_page import PAGE, page
from services.contracts.authorization.policy import parse_policy
from services.contracts.authorization.roles import Role


def test_table_of_rpcs_is_current() -> None:
    assert PAGE.read_text() == page(), "make docs"


def test_example_is_a_policy_with_every_role() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert {binding.role for binding in parse_policy(example).bindings} == set(Role)
