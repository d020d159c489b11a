{{/* The Deployment of a service: (list root service). */}}
{{- define "flyteplane.serviceDeployment" -}}
{{- $root := index . 0 -}}{{- $service := index . 1 -}}{{- $values := fromYaml (include "flyteplane.component" .) -}}
{{- $ports := fromYaml (include "flyteplane.ports" $root) -}}
{{- $storage := fromYaml (include "flyteplane.serviceVolumes" .) -}}
{{- $usesObjects := has $service (fromYaml (include "flyteplane.objectUsers" $root)).services -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "flyteplane.name" . }}
spec:
  {{- if not $values.autoscaling.enabled }}
  replicas: {{ $values.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels: {{ include "flyteplane.selector" . | nindent 6 }}
  template:
    metadata:
      {{- include "flyteplane.podMetadata" (list $root $service $values) | nindent 6 }}
      annotations:
        checksum/settings: {{ include "flyteplane.settings" . | sha256sum }}
        {{- if eq $service "cluster-resources" }}
        checksum/templates: {{ toYaml $root.Values.clusterResources.templates | sha256sum }}
        {{- end }}
        {{- if eq (include "flyteplane.usesTrialSecret" .) "true" }}
        checksum/trial: {{ include "flyteplane.trialPasswords" $root | sha256sum }}
        {{- end }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- include "flyteplane.pod" (list $root $service $values) | nindent 6 }}
      automountServiceAccountToken: {{ and (ne (include "flyteplane.callsClusters" .) "") (ne (include "flyteplane.ownCluster" $root) "") }}
      # It goes on serving, then drains; the rest is for closing connections.
      terminationGracePeriodSeconds: {{ add $root.Values.preStopSeconds $root.Values.drainSeconds 10 }}
      {{- include "flyteplane.podSecurity" (list $root (include "flyteplane.user" $root)) | nindent 6 }}
      containers:
        - name: {{ $service }}
          image: {{ include "flyteplane.image" (list $root $root.Values.image) }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          command: [python, -m, services.{{ include "flyteplane.program" $service }}]
          env:
            - name: FLYTEPLANE_CONFIG
              value: /etc/flyteplane/settings/settings.yaml
            {{- include "flyteplane.databaseEnv" . | nindent 12 }}
            - name: NATS_PASSWORD
              valueFrom: {{ include "flyteplane.natsPassword" . | nindent 16 }}
            - name: FLYTEPLANE_NATS_URL
              value: {{ include "flyteplane.natsUrl" . | quote }}
            {{- include "flyteplane.gatewaySecretEnv" (list $root) | nindent 12 }}
            {{- include "flyteplane.browserSecretEnv" (list $root $service) | nindent 12 }}
            {{- if and (eq $service "executions") (include "flyteplane.localObjects" $root) }}
            - name: FLYTEPLANE_SIGNING_KEY
              valueFrom: {{ include "flyteplane.signingKey" $root | nindent 16 }}
            {{- end }}
            {{- if $usesObjects }}
            {{- include "flyteplane.objectsEnv" (list $root) | nindent 12 }}
            {{- end }}
            {{- with $values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- $sources := $values.extraEnvFrom }}
          {{- if and $usesObjects $root.Values.objectStore.existingSecret }}
          {{- $sources = prepend $sources (dict "secretRef" (dict "name" $root.Values.objectStore.existingSecret)) }}
          {{- end }}
          {{- with $sources }}
          envFrom: {{ toYaml . | nindent 12 }}
          {{- end }}
          ports:
            {{- range $listener, $port := $ports }}
            - {name: {{ $listener }}, containerPort: {{ $port }}}
            {{- end }}
          # A process that cannot reach PostgreSQL or NATS at its start ends, and is started again.
          startupProbe:
            httpGet: {path: /healthz, port: http}
            periodSeconds: 1
            failureThreshold: 60
          livenessProbe:
            httpGet: {path: /healthz, port: http}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          # Longer than its checks, which have two seconds.
          readinessProbe:
            httpGet: {path: /readyz, port: http}
            periodSeconds: 5
            timeoutSeconds: 3
            failureThreshold: 2
          lifecycle:
            preStop:
              sleep: {seconds: {{ $root.Values.preStopSeconds }}}
          {{- include "flyteplane.containerSecurity" $root | nindent 10 }}
          {{- with $values.resources }}
          resources: {{ toYaml . | nindent 12 }}
          {{- end }}
          volumeMounts: {{ toYaml (concat $storage.mounts $values.extraVolumeMounts) | nindent 12 }}
      volumes: {{ toYaml (concat $storage.volumes $values.extraVolumes) | nindent 8 }}
{{- end -}}

{{/* Whether a service has a password that the chart made: (list root service). */}}
{{- define "flyteplane.usesTrialSecret" -}}
{{- $trial := (index . 0).Values.trial -}}
{{- or $trial.postgresql.enabled $trial.nats.enabled $trial.objectStore.enabled -}}
{{- end -}}
