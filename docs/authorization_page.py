"""`python -m docs.authorization_page`: write the table of docs/authorization.md#rpcs from that of the services."""

from collections.abc import Iterator
from pathlib import Path

from services.contracts.authorization.methods import ACCESS, Access, Reach
from services.contracts.authorization.roles import INCLUDED, Role

PAGE = Path(__file__).with_name("authorization.md")
_BEGIN, _END = "<!-- written by make docs -->\n", "<!-- end -->\n"

_COLUMNS = ("RPC", "where", *Role, "kind")

# How the scopes of these are found, instead of by fields.
_WHERE = {
    "GetData": "project-domain in `flyte_url`; all domains of all projects for what is no such URL",
    "CreateDownloadLocation": "project-domain of the object `native_url`; all domains of all projects for others",
    "ListProjects": "any project; the list has the projects of which the caller may read a domain",
}


def page() -> str:
    """Return the page with a current table."""
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    return before + _BEGIN + "\n" + "".join(f"{line}\n" for line in _table()) + "\n" + _END + rest.partition(_END)[2]


def _table() -> Iterator[str]:
    yield f"| {' | '.join(_COLUMNS)} |"
    yield "|" + "---|" * len(_COLUMNS)
    for path, access in sorted(ACCESS.items(), key=lambda item: item[0].rpartition("/")[2]):
        name = path.rpartition("/")[2]
        cells = (_allowed(access, role) for role in Role)
        kind = "write" if access.changes else "read"
        yield f"| {name} | {_WHERE.get(name) or _where(access)} | {' | '.join(cells)} | {kind} |"


def _allowed(access: Access, role: Role) -> str:
    if access.reach in {Reach.NONE, Reach.PUBLIC} or access.role in INCLUDED[role]:
        return "yes"
    if role is Role.ENGINE and access.engine_if is not None:
        return "children"
    return "yes" if role is Role.ENGINE and access.engine else ""


def _where(access: Access) -> str:
    if access.reach is Reach.PUBLIC:
        return "every caller, known or not"
    if access.reach is Reach.NONE:
        return "every known caller"
    if access.reach is Reach.SOMEWHERE:
        return "any project"
    if access.reach is Reach.SOME_DOMAIN:
        return f"one domain of the project `{access.project}`"
    if not access.project:
        return "all domains of all projects"
    if not access.domain:
        return f"all domains of the project `{access.project}`"
    message = access.project.rpartition(".")[0]
    return f"project-domain of `{message}`" if message else "project-domain of the request"


if __name__ == "__main__":
    PAGE.write_text(page())
