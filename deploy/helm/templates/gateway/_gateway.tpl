{{/* The gateway: a first container writes Envoy's files from the routes of the release, Envoy runs on them. */}}

{{- define "flyteplane.gatewayArguments" -}}
arguments:
  - --out=/etc/envoy
  - --listen=0.0.0.0:8080
  - --admin=127.0.0.1:9901
  - --stats=0.0.0.0:9902
  {{- $ports := fromYaml (include "flyteplane.ports" .) }}
  {{- range $service := list "registry" "executions" "events" "projects" }}
  - --upstream={{ $service }}={{ include "flyteplane.host" (list $ $service) }}:{{ $ports.http2 }}
  {{- end }}
  - --reflection={{ include "flyteplane.host" (list . "registry") }}:{{ $ports.grpc }}
  {{- if include "flyteplane.localObjects" . }}
  - --objects={{ include "flyteplane.host" (list . "executions") }}:{{ $ports.http }}
  {{- end }}
  {{- if include "flyteplane.browserLogin" . }}
  - --browser-login={{ include "flyteplane.host" (list . "projects") }}:{{ $ports.http }}
  {{- end }}
  {{- if .Values.gateway.tls.existingSecret }}
  - --tls-chain=/etc/flyteplane/tls/tls.crt
  - --tls-key=/etc/flyteplane/tls/tls.key
  {{- end }}
  {{- range .Values.gateway.hosts }}
  - --host={{ . }}
  {{- end }}
  {{- range .Values.gateway.corsOrigins }}
  - --cors-origin={{ . }}
  {{- end }}
  {{- with .Values.gateway.trustedProxies }}
  - --trusted-proxies={{ int . }}
  {{- end }}
  {{- with .Values.auth }}
  {{- if .gatewaySecret.name }}
  - --gateway-secret-file=/etc/flyteplane/gateway-secret/{{ .gatewaySecret.key }}
  {{- end }}
  {{- if .issuer }}
  {{- if not .audiences }}{{ fail "auth.audiences: needed with auth.issuer" }}{{ end }}
  - --auth-issuer={{ .issuer }}
  {{- range .audiences }}
  - --auth-audience={{ . }}
  {{- end }}
  - --auth-jwks-url={{ required "auth.jwksUrl: needed with auth.issuer" .jwksUrl }}
  {{- if .caSecret.name }}
  - --auth-ca-file=/etc/flyteplane/auth-ca/{{ .caSecret.key }}
  {{- end }}
  {{- end }}
  {{- end }}
  - --max-message-bytes={{ int64 .Values.maxMessageBytes }}
  {{- if .Values.gateway.accessLog }}
  - --access-log
  {{- end }}
{{- end -}}

{{- define "flyteplane.gatewayDeployment" -}}
{{- $values := .Values.gateway -}}
{{- $arguments := (fromYaml (include "flyteplane.gatewayArguments" .)).arguments -}}
{{- $scheme := ternary "HTTPS" "HTTP" (ne $values.tls.existingSecret "") -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "flyteplane.name" (list . "gateway") }}
spec:
  {{- if not $values.autoscaling.enabled }}
  replicas: {{ $values.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels: {{ include "flyteplane.selector" (list . "gateway") | nindent 6 }}
  template:
    metadata:
      {{- include "flyteplane.podMetadata" (list . "gateway" $values) | nindent 6 }}
      annotations:
        # The files follow from these and from the image, which is in the pod's spec.
        checksum/configuration: {{ toYaml $arguments | sha256sum }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- include "flyteplane.pod" (list . "gateway" $values) | nindent 6 }}
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: {{ add $values.drainSeconds 10 }}
      {{- include "flyteplane.podSecurity" (list . (include "flyteplane.user" .)) | nindent 6 }}
      initContainers:
        - name: render
          image: {{ include "flyteplane.image" (list . .Values.image) }}
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          command: [python, -m, gateway, render]
          args: {{ toYaml $arguments | nindent 12 }}
          {{- include "flyteplane.containerSecurity" . | nindent 10 }}
          resources:
            requests: {cpu: 100m, memory: 128Mi}
            limits: {memory: 256Mi}
          volumeMounts:
            - {name: envoy, mountPath: /etc/envoy}
            {{- if .Values.auth.gatewaySecret.name }}
            - {name: gateway-secret, mountPath: /etc/flyteplane/gateway-secret, readOnly: true}
            {{- end }}
      containers:
        - name: envoy
          image: {{ include "flyteplane.image" (list . $values.image) }}
          imagePullPolicy: {{ $values.image.pullPolicy }}
          command: [envoy]
          args:
            - --config-path
            - /etc/envoy/envoy.yaml
            - --concurrency
            - {{ $values.concurrency | quote }}
            - --disable-hot-restart
            - --drain-time-s
            - {{ $values.drainSeconds | quote }}
            - --log-level
            - warning
          {{- with $values.extraEnv }}
          env: {{ toYaml . | nindent 12 }}
          {{- end }}
          {{- with $values.extraEnvFrom }}
          envFrom: {{ toYaml . | nindent 12 }}
          {{- end }}
          ports:
            - {name: front, containerPort: 8080}
            - {name: stats, containerPort: 9902}
          startupProbe:
            httpGet: {path: /ready, port: stats}
            periodSeconds: 1
            failureThreshold: 60
          livenessProbe:
            httpGet: {path: /ready, port: stats}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          # By the way of clients.
          readinessProbe:
            httpGet: {path: /healthcheck, port: front, scheme: {{ $scheme }}}
            periodSeconds: 5
            timeoutSeconds: 2
            failureThreshold: 2
          lifecycle:
            preStop:
              # Envoy ends at once on SIGTERM. Its admin interface makes it ask clients to go elsewhere; it listens
              # meanwhile, as some still have its address.
              exec:
                command:
                  - bash
                  - -c
                  - |-
                    exec 3<>/dev/tcp/127.0.0.1/9901
                    printf 'POST /drain_listeners?graceful&skip_exit HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n' >&3
                    cat <&3
                    sleep {{ $values.drainSeconds }}
          {{- include "flyteplane.containerSecurity" . | nindent 10 }}
          {{- with $values.resources }}
          resources: {{ toYaml . | nindent 12 }}
          {{- end }}
          volumeMounts:
            - {name: envoy, mountPath: /etc/envoy, readOnly: true}
            - {name: tmp, mountPath: /tmp}
            {{- if $values.tls.existingSecret }}
            - {name: tls, mountPath: /etc/flyteplane/tls, readOnly: true}
            {{- end }}
            {{- if .Values.auth.caSecret.name }}
            - {name: auth-ca, mountPath: /etc/flyteplane/auth-ca, readOnly: true}
            {{- end }}
            {{- with $values.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: envoy
          emptyDir: {sizeLimit: 32Mi}
        - name: tmp
          emptyDir: {}
        {{- with $values.tls.existingSecret }}
        - name: tls
          secret: {secretName: {{ . }}}
        {{- end }}
        {{- with .Values.auth.gatewaySecret }}
        {{- if .name }}
        - name: gateway-secret
          secret: {secretName: {{ .name }}, items: [{key: {{ .key }}, path: {{ .key }}}]}
        {{- end }}
        {{- end }}
        {{- with .Values.auth.caSecret.name }}
        - name: auth-ca
          secret: {secretName: {{ . }}}
        {{- end }}
        {{- with $values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}

{{- define "flyteplane.gatewayService" -}}
{{- $values := .Values.gateway.service -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "flyteplane.name" (list . "gateway") }}
  {{- with $values.annotations }}
  annotations: {{ toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $values.type }}
  selector: {{ include "flyteplane.selector" (list . "gateway") | nindent 4 }}
  ports:
    - name: front
      port: {{ $values.port }}
      targetPort: front
      appProtocol: {{ ternary "https" "kubernetes.io/h2c" (ne .Values.gateway.tls.existingSecret "") }}
      {{- with $values.nodePort }}
      nodePort: {{ . }}
      {{- end }}
{{- end -}}
