"""SQL that statements about tasks, workflows and launch plans share: their key, and what comes with a version."""

from collections.abc import Sequence

from flyteidl.core.identifier_pb2 import Identifier, ResourceType

WHERE_NAME = "project = %(project)s AND domain = %(domain)s AND name = %(name)s"
WHERE_KEY = f"{WHERE_NAME} AND version = %(version)s"

# `new` is the row of the version, none if it existed. The row of a name is inserted with its first version.
_INSERT_NEW = """
WITH new AS (
    {insert}
    ON CONFLICT (project, domain, name, version) DO NOTHING
    RETURNING id
), named AS (
    INSERT INTO named_entities (created_at, updated_at, resource_type, project, domain, name, state)
    SELECT %(now)s, %(now)s, %(resource_type)s, %(project)s, %(domain)s, %(name)s, %(name_state)s FROM new
    ON CONFLICT (resource_type, project, domain, name) DO NOTHING
), announced AS (
    INSERT INTO outbox (subject, payload) SELECT %(subject)s, %(payload)b FROM new
){further}
SELECT id FROM new
"""

# Numbered keys, to be joined with a table: one statement returns a row for each, in their order.
REQUESTED = """
unnest(%(projects)s::text[], %(domains)s::text[], %(names)s::text[], %(versions)s::text[])
WITH ORDINALITY AS requested (project, domain, name, version, number)
"""


def insert_new(insert: str, *further: str) -> str:
    """Return a statement that inserts a version, if it is new, with the row of its name and its announcement.

    One statement is one round trip to the database, and a transaction of its own.

    Args:
        insert: the INSERT of the version, up to its values; beginning with its key.
        further: further WITH queries, which read `new`.
    """
    return _INSERT_NEW.format(insert=insert, further="".join(f", {query}" for query in further))


def key_of(identifier: Identifier) -> dict[str, object]:
    """Return the parameters of WHERE_KEY."""
    return {
        "project": identifier.project,
        "domain": identifier.domain,
        "name": identifier.name,
        "version": identifier.version,
    }


def keys_of(identifiers: Sequence[Identifier]) -> dict[str, object]:
    """Return the parameters of REQUESTED."""
    return {
        "projects": [identifier.project for identifier in identifiers],
        "domains": [identifier.domain for identifier in identifiers],
        "names": [identifier.name for identifier in identifiers],
        "versions": [identifier.version for identifier in identifiers],
    }


def identifier_of(resource_type: ResourceType, key: Sequence[str]) -> Identifier:
    """Return the identifier of a row with `key`: project, domain, name and version."""
    project, domain, name, version = key
    return Identifier(resource_type=resource_type, project=project, domain=domain, name=name, version=version)
