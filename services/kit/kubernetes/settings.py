"""Settings of the Kubernetes clusters that a service calls."""

import os
from collections.abc import Mapping
from functools import partial
from typing import Self

from pydantic import BaseModel, ConfigDict, FilePath, field_validator, model_validator

from services.kit.kubernetes.access import Access, ReadAccess, from_files, in_cluster
from services.kit.kubernetes.kubeconfig import from_kubeconfig
from services.kit.process.settings import ProcessSettings

_HOST, _PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"


class Cluster(BaseModel):
    """A Kubernetes cluster: its API server, and how this service authenticates to it.

    With neither `server` nor `kubeconfig` it is the cluster in which the service runs, with its service account.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = ""
    enabled: bool = True
    """Whether new executions may run there; those that run there already are still stopped."""
    kubeconfig: FilePath | None = None
    context: str = ""
    """Context of the kubeconfig file; empty for its current one."""
    server: str = ""
    ca_file: FilePath | None = None
    token_file: FilePath | None = None
    certificate_file: FilePath | None = None
    key_file: FilePath | None = None

    @field_validator("server")
    @classmethod
    def _url(cls, value: str) -> str:
        if value and not value.startswith(("https://", "http://")):
            raise ValueError("must be https://host:port")
        return value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        files = (self.ca_file, self.token_file, self.certificate_file, self.key_file)
        if self.kubeconfig and (self.server or any(files)):
            raise ValueError("a cluster has either a kubeconfig, or a server and its files")
        if self.context and not self.kubeconfig:
            raise ValueError("a context needs a kubeconfig")
        if any(files) and not self.server:
            raise ValueError("ca_file, token_file, certificate_file and key_file need a server")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file are needed together")
        return self

    def reader(self, environment: Mapping[str, str] = os.environ) -> ReadAccess:
        """Return what reads the credentials, each time from their files.

        Args:
            environment: the process's variables, for the cluster in which it runs.

        Raises:
            ValueError: The settings name no server, and the process runs in no cluster.
        """
        if self.kubeconfig:
            return partial(from_kubeconfig, self.kubeconfig, self.context)
        if self.server:
            return self._from_files
        host, port = environment.get(_HOST, ""), environment.get(_PORT, "")
        if not host or not port:
            raise ValueError(
                f"cluster {self.id!r} has neither server nor kubeconfig, and this process runs in no cluster: "
                f"{_HOST} and {_PORT} are not set"
            )
        return partial(in_cluster, host, port)

    def _from_files(self) -> Access:
        return from_files(
            self.server,
            authorities=self.ca_file,
            token=self.token_file,
            certificate=self.certificate_file,
            key=self.key_file,
        )


class ClusterSettings(ProcessSettings):
    """Settings of a service that calls Kubernetes API servers."""

    clusters: tuple[Cluster, ...] = ()
    """Kubernetes clusters in which executions run, by default the one in which the service runs; JSON in the
    environment. Of each: id (of a single one it may be empty), enabled, and how it is reached: kubeconfig and context;
    or server, ca_file, and token_file or certificate_file and key_file; or nothing, for the cluster in which the
    service runs. Files are read again when they change."""

    @field_validator("clusters")
    @classmethod
    def _distinct(cls, value: tuple[Cluster, ...]) -> tuple[Cluster, ...]:
        ids = {cluster.id for cluster in value}
        if len(ids) < len(value):
            raise ValueError("each id may stand here once")
        if len(value) > 1 and "" in ids:
            raise ValueError("each of several clusters needs an id")
        return value

    @property
    def reachable_clusters(self) -> tuple[Cluster, ...]:
        """The clusters, with the default."""
        return self.clusters or (Cluster(),)
