"""Install, upgrade and roll back a release by Helm on an API server; run with the chart's own environment.

`release.py CHART URL CA_FILE TOKEN` reads a list of values from standard input: the first are installed, the others are
upgrades; then the release is rolled back to its first revision. It writes the status of each revision.
"""

import json
import sys

import helm_python

NAME, NAMESPACE = "flyteplane", "installed"

if __name__ == "__main__":
    chart, url, authority, token = sys.argv[1:]
    first, *others = json.load(sys.stdin)
    config = helm_python.Config(
        namespace=NAMESPACE, kube_apiserver=url, kube_ca_file=authority, kube_token=token, storage_driver="secret"
    )
    with config:
        config.install(chart, NAME, first, namespace=NAMESPACE, create_namespace=True)
        for values in others:
            config.upgrade(chart, NAME, values, namespace=NAMESPACE)
        config.rollback(NAME, version=1)
        json.dump([each["status"] for each in config.history(NAME)], sys.stdout)
