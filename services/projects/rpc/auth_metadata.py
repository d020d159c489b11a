"""AuthMetadataService: how clients log in (gateway.md#authentication)."""

from flyteidl.service.auth_pb2 import (
    OAuth2MetadataRequest,
    OAuth2MetadataResponse,
    PublicClientAuthConfigRequest,
    PublicClientAuthConfigResponse,
)

from services.kit.rpc.table import Call
from services.projects.config import Settings
from services.projects.login.discovery import Discovery

_MEMBERS = tuple(field.name for field in OAuth2MetadataResponse.DESCRIPTOR.fields)


class AuthMetadataHandlers:
    """The RPCs that clients call before they have a token."""

    def __init__(self, settings: Settings, discovery: Discovery) -> None:
        self._discovery = discovery
        self._client = PublicClientAuthConfigResponse(
            client_id=settings.auth_client_id,
            redirect_uri=settings.auth_client_redirect_uri,
            scopes=settings.auth_client_scopes,
            authorization_metadata_key=settings.auth_client_header,
            audience=settings.auth_client_audience,
        )

    async def GetOAuth2Metadata(self, _request: OAuth2MetadataRequest, _call: Call) -> OAuth2MetadataResponse:
        """Return the endpoints of the provider; raise Unavailable when they are not known and it does not respond."""
        metadata = await self._discovery.metadata()
        return OAuth2MetadataResponse(**{name: getattr(metadata, name) for name in _MEMBERS})

    async def GetPublicClientConfig(
        self, _request: PublicClientAuthConfigRequest, _call: Call
    ) -> PublicClientAuthConfigResponse:
        """Return the client as which flytekit and flytectl log people in; cannot fail."""
        return self._client
