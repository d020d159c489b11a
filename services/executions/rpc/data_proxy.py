"""Signed URLs of DataProxyService: uploads, downloads, decks (executions.md#dataproxyservice)."""

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure
from flyteidl.service.dataproxy_pb2 import (
    CreateDownloadLinkRequest,
    CreateDownloadLinkResponse,
    CreateDownloadLocationRequest,
    CreateDownloadLocationResponse,
    CreateUploadLocationRequest,
    CreateUploadLocationResponse,
    PreSignedURLs,
)
from google.protobuf.timestamp_pb2 import Timestamp

from services.contracts.identifiers import identifier_text
from services.executions.config import Settings
from services.executions.rules import data_proxy as rules
from services.executions.rules.names import random_text
from services.executions.store import node_executions
from services.kit.db.database import Database
from services.kit.errors import InvalidArgument, NotFound
from services.kit.objects.store import ObjectStore
from services.kit.rpc.table import Call


class DataProxyHandlers:
    """The RPCs that sign URLs."""

    def __init__(self, db: Database, objects: ObjectStore, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._objects = objects
        self._upload_prefix = settings.upload_prefix
        self._longest_upload = timedelta(seconds=settings.upload_max_expiry_seconds)
        self._longest_download = timedelta(seconds=settings.download_max_expiry_seconds)
        self._clock = clock

    async def CreateUploadLocation(
        self, request: CreateUploadLocationRequest, _call: Call
    ) -> CreateUploadLocationResponse:
        """Sign an upload URL (executions.md#createuploadlocation).

        Raises:
            InvalidArgument: The request is invalid.
            AlreadyExists: A file of this name exists and has other content.
            FailedPrecondition: No file can have this path, as a folder has it.
        """
        rules.check_upload(request)
        folder = (self._upload_prefix, *rules.upload_folder(request))
        expires_in = request.expires_in if request.HasField("expires_in") else None
        lifetime = rules.lifetime(expires_in, self._longest_upload)
        name = request.filename or random_text(secrets.choice, rules.FILENAME_CHARACTERS)
        uri = self._objects.uri(*folder, name)
        await self._objects.check_writable_path(uri)
        if request.filename and request.filename_root:
            await self._check_rewrite(request, uri)
        signed = await self._objects.sign_put(uri, lifetime, request.content_md5 or None)
        return CreateUploadLocationResponse(
            signed_url=signed.url, native_url=uri, expires_at=self._after(lifetime), headers=signed.headers
        )

    async def _check_rewrite(self, request: CreateUploadLocationRequest, uri: str) -> None:
        existing = await self._objects.head(uri)
        if existing is not None:
            rules.check_rewrite(request, uri, await self._objects.md5(uri), existing.etag)

    async def CreateDownloadLocation(
        self, request: CreateDownloadLocationRequest, _call: Call
    ) -> CreateDownloadLocationResponse:
        """Sign a download URL of an object that may be read (executions.md#createdownloadlocation)."""
        expires_in = request.expires_in if request.HasField("expires_in") else None
        try:
            lifetime = rules.lifetime(expires_in, self._longest_download)
            url = await self._objects.sign_get(request.native_url, lifetime)
        except InvalidArgument as error:
            raise InvalidArgument(f"error while validating request: {error.message}") from error
        return CreateDownloadLocationResponse(signed_url=url, expires_at=self._after(lifetime))

    async def CreateDownloadLink(self, request: CreateDownloadLinkRequest, _call: Call) -> CreateDownloadLinkResponse:
        """Sign a download URL of a node's deck, in the old and the new fields (executions.md#createdownloadlink)."""
        rules.check_link(request)
        expires_in = request.expires_in if request.HasField("expires_in") else None
        lifetime = rules.lifetime(expires_in, self._longest_download)
        urls, expires_at = await self.sign_download(await self._deck(request), lifetime)
        return CreateDownloadLinkResponse(
            signed_url=urls,
            expires_at=expires_at,
            pre_signed_urls=PreSignedURLs(signed_url=urls, expires_at=expires_at),
        )

    async def sign_download(self, uri: str, lifetime: timedelta | None = None) -> tuple[list[str], Timestamp]:
        """Sign download URLs of an object; return them and when they expire. The default is the longest lifetime."""
        lifetime = lifetime or self._longest_download
        return [await self._objects.sign_get(uri, lifetime)], self._after(lifetime)

    async def _deck(self, request: CreateDownloadLinkRequest) -> str:
        node = request.node_execution_id
        async with self._db.read() as connection:
            row = await node_executions.get_data(connection, node)
        if row is None:
            raise InvalidArgument(f"failed to find node execution {identifier_text(node)}")
        uri: str = NodeExecutionClosure.FromString(row.closure).deck_uri
        if not uri:
            raise NotFound(f"no deckUrl found for request {rules.link_text(request)}")
        if await self._objects.head_or_none(uri) is None:
            raise NotFound(f"object not found: {uri}, for request {rules.link_text(request)}")
        return uri

    def _after(self, lifetime: timedelta) -> Timestamp:
        moment = Timestamp()
        moment.FromDatetime(self._clock() + lifetime)
        return moment
