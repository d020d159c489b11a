"""What runs Flyteplane: `sandbox` on one machine, the Helm chart in `helm`, whose values `chart` defines.

`nats_users` is for any deployment, `release_test` for `helm test`. Imports no service.
"""
