{{/* Objects next to a workload: its service account, its disruption budget and its autoscaler. */}}

{{/* (list root component values) */}}
{{- define "flyteplane.ownAccount" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $values := index . 2 -}}
{{- if $values.serviceAccount.create }}
{{- include "flyteplane.object" (list $root (include "flyteplane.accountObject" .) $component) }}
{{- end }}
{{- end -}}

{{- define "flyteplane.accountObject" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "flyteplane.serviceAccount" . }}
  {{- with (index . 2).serviceAccount.annotations }}
  annotations: {{ toYaml . | nindent 4 }}
  {{- end }}
# Pods that call the API server ask for a token themselves.
automountServiceAccountToken: false
{{- end -}}

{{/* (list root component values) */}}
{{- define "flyteplane.scaling" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $values := index . 2 -}}
{{- $fewest := ternary $values.autoscaling.minReplicas $values.replicas $values.autoscaling.enabled -}}
{{- if and $values.disruptionBudget.enabled (gt (int $fewest) 1) }}
{{- include "flyteplane.object" (list $root (include "flyteplane.budgetObject" .) $component) }}
{{- end }}
{{- if $values.autoscaling.enabled }}
{{- include "flyteplane.object" (list $root (include "flyteplane.autoscalerObject" .) $component) }}
{{- end }}
{{- end -}}

{{- define "flyteplane.budgetObject" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "flyteplane.name" . }}
spec:
  maxUnavailable: {{ (index . 2).disruptionBudget.maxUnavailable }}
  # A pod that is not ready serves no one, so it never holds a drain of its node up.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{ include "flyteplane.selector" . | nindent 6 }}
{{- end -}}

{{- define "flyteplane.autoscalerObject" -}}
{{- $scaling := (index . 2).autoscaling -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "flyteplane.name" . }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ include "flyteplane.name" . }}}
  minReplicas: {{ $scaling.minReplicas }}
  maxReplicas: {{ max $scaling.maxReplicas $scaling.minReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ $scaling.cpuPercent }}}
  behavior:
    # A pod takes seconds to start, and its drain half a minute: down slowly, one at a time.
    scaleDown:
      stabilizationWindowSeconds: 300
      policies:
        - {type: Pods, value: 1, periodSeconds: 60}
{{- end -}}
