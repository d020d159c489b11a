"""Which project an announcement is about, if it may change cluster resources."""

from services.contracts.projects import ATTRIBUTES_DELETED, ATTRIBUTES_UPDATED, PROJECT_REGISTERED, PROJECT_UPDATED


def changed_project(subject: str, payload: bytes) -> str | None:
    """Return the id of the project whose cluster resources may be others now; None if none are.

    Args:
        subject: The subject of an announcement of this service.
        payload: Its message.
    """
    for announcement in (PROJECT_REGISTERED, PROJECT_UPDATED):
        if subject == announcement.subject:
            return announcement.message.FromString(payload).id
    for about_attributes in (ATTRIBUTES_UPDATED, ATTRIBUTES_DELETED):
        if subject == about_attributes.subject:
            scope = about_attributes.message.FromString(payload)
            return scope.project if scope.attributes.HasField("cluster_resource_attributes") else None
    return None
