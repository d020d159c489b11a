"""The gateway: one port for gRPC, REST and gRPC-Web, served by Envoy with a configuration made here.

Owns: `routes.toml`, the only table of which service serves which method.
Serves: every method of a Flyte client, on one address. It runs no Python: `python -m gateway render` (or
`gateway.render.render`) writes a folder of files, and Envoy runs on them. It has no state and does not use NATS.

The modules, from the table to the files:

    routes.toml > routes        the owner of each method, checked against the installed flyteidl
    descriptors                 the four descriptor sets and the list of REST patterns, from the same flyteidl
    lua/                        what Envoy's transcoder cannot do by itself, for REST requests only; what pages may do
    limits                      bounds of what clients may use up
    clusters, filters, routing, tls, stats, bootstrap   Envoy's configuration as plain data
    render                      all of it as files in a folder
"""
