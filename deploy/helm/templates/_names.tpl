{{/* Names and labels. All templates take the root context, or a list that begins with it. */}}

{{- define "flyteplane.fullname" -}}
{{- $chart := .Values.nameOverride | default .Chart.Name -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $chart .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $chart | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{/* The name of a component's objects: (list root component). */}}
{{- define "flyteplane.name" -}}
{{ include "flyteplane.fullname" (index . 0) }}-{{ index . 1 }}
{{- end -}}

{{/* The labels by which pods of a component are selected: (list root component). They never change. */}}
{{- define "flyteplane.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Values.nameOverride | default (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* The name of a component's service account: (list root component values). */}}
{{- define "flyteplane.serviceAccount" -}}
{{- $account := (index . 2).serviceAccount -}}
{{- if $account.name -}}
{{ $account.name }}
{{- else if $account.create -}}
{{ include "flyteplane.name" . }}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{/* An image's reference: (list root image). */}}
{{- define "flyteplane.image" -}}
{{- $image := index . 1 -}}
{{- $repository := required "image.repository: needed: build the image of Flyteplane and name it" $image.repository -}}
{{- if $image.digest -}}
{{ $repository }}@{{ $image.digest }}
{{- else -}}
{{ $repository }}:{{ $image.tag | default (index . 0).Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The address of a component's Service in the cluster: (list root component). */}}
{{- define "flyteplane.host" -}}
{{ include "flyteplane.name" . }}.{{ (index . 0).Release.Namespace }}.svc
{{- end -}}

{{/* The URL of the gateway as clients see it. */}}
{{- define "flyteplane.publicUrl" -}}
{{- $scheme := ternary "https" "http" (ne .Values.gateway.tls.existingSecret "") -}}
{{- .Values.publicUrl | default (printf "%s://%s:%v" $scheme (include "flyteplane.host" (list . "gateway")) .Values.gateway.service.port) -}}
{{- end -}}
