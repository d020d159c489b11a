"""All that Envoy needs as files in one folder: envoy.yaml, descriptor sets, three scripts, a certificate's paths."""

from pathlib import Path
from typing import Any

import yaml

from gateway import descriptors, filters, routes, scripts, tls
from gateway.bootstrap import Settings, bootstrap

CONFIG_FILE = "envoy.yaml"
_OWNER_ONLY = 0o600


class _PlainDumper(yaml.CSafeDumper):
    """A YAML dumper without anchors: repeated values are written out, so each part can be read alone."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's own hook
        return True


def render(out: Path, settings: Settings) -> Path:
    """Write the files into the folder `out`, which is made when missing, and return the path of envoy.yaml.

    envoy.yaml names the other files by absolute paths, so Envoy must see `out` under the same path.

    Raises:
        RoutesError: routes.toml does not fit the installed flyteidl.
        KeyError: an owner named there has no upstream.
        SecretError: the file of the gateway's secret is missing or has none.
    """
    table = routes.load()
    out = out.resolve()
    configuration = bootstrap(table, out, settings)
    out.mkdir(parents=True, exist_ok=True)
    for body, reply in descriptors.FORMS:
        file_set = descriptors.descriptor_set(body, reply)
        (out / filters.descriptor_file(body, reply)).write_bytes(file_set.SerializeToString(deterministic=True))
    (out / "origin.lua").write_text(scripts.origin(settings.cors_origins, settings.hosts))
    (out / "outer.lua").write_text(scripts.outer(descriptors.rest_patterns(), settings.max_message_bytes))
    (out / "inner.lua").write_text(scripts.inner())
    if settings.tls:
        (out / tls.SECRET_FILE).write_text(_yaml(tls.secret(settings.tls)))
    config = out / CONFIG_FILE
    config.touch()
    config.chmod(_OWNER_ONLY)  # it has the secret that services believe
    config.write_text(_yaml(configuration))
    return config


def _yaml(content: dict[str, Any]) -> str:
    return yaml.dump(content, Dumper=_PlainDumper, sort_keys=False, width=120)
