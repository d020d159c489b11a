"""The values of the Helm chart in `deploy/helm`, defined once.

`values` has the definitions; `docs.chart_files` writes from them the chart's `values.yaml` with comments, the strict
`values.schema.json`, and the table in its README. Templates read what they name; a test compares.
"""
