{{/*
Every object of the chart passes here: (list root text component?).
It gets the namespace, the labels and annotations of all objects, and the patches for its kind and name.
*/}}
{{- define "flyteplane.object" -}}
{{- $root := index . 0 -}}
{{- $object := fromYaml (index . 1) -}}
{{- if hasKey $object "Error" -}}
{{- fail (printf "a template is not YAML: %s\n%s" $object.Error (index . 1)) -}}
{{- end -}}
{{- $metadata := $object.metadata -}}
{{- if not (has $object.kind (list "ClusterRole" "ClusterRoleBinding" "CustomResourceDefinition")) -}}
{{- $_ := set $metadata "namespace" ($metadata.namespace | default $root.Release.Namespace) -}}
{{- end -}}
{{- $labels := dict "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
{{- $labels = merge $labels (dict "app.kubernetes.io/name" ($root.Values.nameOverride | default $root.Chart.Name) "app.kubernetes.io/instance" $root.Release.Name) -}}
{{- $labels = merge $labels (dict "app.kubernetes.io/version" $root.Chart.AppVersion "app.kubernetes.io/managed-by" $root.Release.Service) -}}
{{- if gt (len .) 2 -}}
{{- $_ := set $labels "app.kubernetes.io/component" (index . 2) -}}
{{- end -}}
{{- $_ := set $metadata "labels" (mergeOverwrite (deepCopy $root.Values.commonLabels) ($metadata.labels | default dict) $labels) -}}
{{- $annotations := mergeOverwrite (deepCopy $root.Values.commonAnnotations) ($metadata.annotations | default dict) -}}
{{- if $annotations -}}
{{- $_ := set $metadata "annotations" $annotations -}}
{{- end -}}
{{- range $root.Values.patches -}}
{{- if and (eq .target.kind $object.kind) (or (not .target.name) (eq .target.name $metadata.name)) -}}
{{- $object = mergeOverwrite $object (deepCopy .patch) -}}
{{- end -}}
{{- end }}
---
{{ toYaml $object }}
{{- end -}}
