"""Values of the gateway and of what is in front of it."""

from typing import Literal

from pydantic import Field

from deploy.chart.base import Image, KubernetesObject, Labels, Name, Port, ReplicatedPods, Seconds, Values


class GatewayService(Values):
    """The Service in front of the gateway."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """Its type."""

    port: Port = 80
    """Its port, for HTTP/1.1, HTTP/2 and gRPC."""

    node_port: int | None = Field(default=None, ge=1, le=65535)
    """The port of nodes, for NodePort."""

    annotations: Labels = {}
    """Its annotations, such as those of a cloud's load balancer."""


class GatewayTls(Values):
    """TLS by the gateway itself."""

    existing_secret: Name = ""
    """Secret of type kubernetes.io/tls; empty: clear text, for a proxy in front that ends TLS. A renewed certificate is
    read without a restart."""

    ca_key: str = ""
    """Key in it with the certificates of its authority, such as ca.crt, which clients in the cluster trust; empty: a
    public authority."""

    server_name: str = ""
    """Name in the certificate, for the test of the release, which calls the Service; empty: the Service's own name."""


class Gateway(ReplicatedPods):
    """Envoy."""

    image: Image = Image(repository="docker.io/envoyproxy/envoy", tag="v1.40.0")
    """Envoy's image; not a distroless one, as the drain before the end is a command of bash."""

    concurrency: int = Field(default=2, ge=1, le=64)
    """Worker threads; as many as the container has CPUs."""

    hosts: list[str] = []
    """Names by which REST clients and web pages reach the gateway; empty: any. With names, a page on another site
    cannot use its own name for the gateway's address."""

    cors_origins: list[str] = []
    """Origins of web pages that may call, in addition to the gateway's own."""

    trusted_proxies: int = Field(default=0, ge=0, le=16)
    """Proxies in front of the gateway that append their client's address to x-forwarded-for, such as an ingress: the
    audit log has the address that the first of them saw."""

    access_log: bool = False
    """Whether each request is a line of JSON."""

    drain_seconds: Seconds = 20
    """How long connections are closed gracefully before the end: clients get GOAWAY and open new ones elsewhere."""

    service: GatewayService = GatewayService()
    """The Service."""

    tls: GatewayTls = GatewayTls()
    """TLS."""


class Ingress(Values):
    """Two Ingresses for one host: gRPC needs other annotations than HTTP with most controllers."""

    enabled: bool = False
    """Whether there are any."""

    class_name: Name = ""
    """Their IngressClass; empty: the cluster's default."""

    host: str = ""
    """The host."""

    tls_secret: Name = ""
    """Secret of type kubernetes.io/tls for the host; empty: clear text, which gRPC clients cannot use with most
    controllers."""

    annotations: Labels = {}
    """Annotations of both."""

    http_annotations: Labels = {}
    """Annotations of that for HTTP."""

    grpc_annotations: Labels = {"nginx.ingress.kubernetes.io/backend-protocol": "GRPC"}
    """Annotations of that for gRPC."""


class Route(Values):
    """Routes of the Gateway API, at a Gateway that exists."""

    enabled: bool = False
    """Whether there are any."""

    parent_refs: list[KubernetesObject] = []
    """The Gateways: `name`, and `namespace` and `sectionName` where needed."""

    hostnames: list[str] = []
    """Names for an HTTPRoute. It carries gRPC too, as the Service's port is HTTP/2 in clear text (`h2c`)."""

    grpc_hostnames: list[str] = []
    """Names for a GRPCRoute. A name must not be in both: a Gateway takes one of the two routes only."""

    annotations: Labels = {}
    """Annotations of the routes."""


class NetworkPolicies(Values):
    """NetworkPolicies: services accept calls from the gateway, and what is below."""

    enabled: bool = True
    """Whether there are any."""

    gateway_from: list[KubernetesObject] = []
    """Peers that may reach the gateway; empty: all."""

    monitoring_from: list[KubernetesObject] = []
    """Peers that may read metrics; empty: all pods of the cluster."""

    egress: list[KubernetesObject] = []
    """Rules for connections that the four services open, in addition to DNS and the chart's own parts; empty: no
    restriction."""
