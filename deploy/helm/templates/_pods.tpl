{{/* What pods have in common. */}}

{{/* Fields of a pod's spec: (list root component values). */}}
{{- define "flyteplane.pod" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $values := index . 2 -}}
serviceAccountName: {{ include "flyteplane.serviceAccount" . }}
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- if $values.topologySpreadConstraints }}
topologySpreadConstraints: {{ toYaml $values.topologySpreadConstraints | nindent 2 }}
{{- else if $values.topologySpread }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels: {{ include "flyteplane.selector" (list $root $component) | nindent 8 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Labels and annotations of a pod: (list root component values). */}}
{{- define "flyteplane.podMetadata" -}}
labels:
  {{- mergeOverwrite (deepCopy (index . 0).Values.commonLabels) (deepCopy (index . 2).podLabels) (fromYaml (include "flyteplane.selector" .)) | toYaml | nindent 2 }}
{{- end -}}

{{/* The security context of a pod that passes the restricted profile: (list root user). */}}
{{- define "flyteplane.podSecurity" -}}
{{- $user := index . 1 -}}
securityContext:
  runAsNonRoot: true
  {{- if (index . 0).Values.fixedUser }}
  runAsUser: {{ $user }}
  runAsGroup: {{ $user }}
  fsGroup: {{ $user }}
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{/* The security context of a container that passes the restricted profile. */}}
{{- define "flyteplane.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* The user's number in Flyteplane's image. */}}
{{- define "flyteplane.user" -}}65532{{- end -}}
