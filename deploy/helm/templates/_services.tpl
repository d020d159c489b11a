{{/* The four services: where they find PostgreSQL, NATS and the object store. */}}

{{/* Their ports, as a dict. */}}
{{- define "flyteplane.ports" -}}
grpc: 8081
http: 8082
http2: 8083
{{- end -}}

{{/* The names of those that use the object store. */}}
{{- define "flyteplane.objectUsers" -}}
services: [registry, executions, events]
{{- end -}}

{{- define "flyteplane.objectsUrl" -}}
{{- if .Values.trial.objectStore.enabled -}}
file:///var/lib/flyteplane/objects
{{- else -}}
{{- required "objectStore.url: needed unless trial.objectStore is enabled" .Values.objectStore.url | trimSuffix "/" -}}
{{- end -}}
{{- end -}}

{{/* Whether the store is a folder: "true" or empty. */}}
{{- define "flyteplane.localObjects" -}}
{{- if hasPrefix "file://" (include "flyteplane.objectsUrl" .) -}}true{{- end -}}
{{- end -}}

{{/* The claim of a folder's volume. */}}
{{- define "flyteplane.objectsClaim" -}}
{{- if .Values.trial.objectStore.enabled -}}
{{ include "flyteplane.name" (list . "objects") }}
{{- else -}}
{{- required "objectStore.persistentVolumeClaim: needed for a file:// store" .Values.objectStore.persistentVolumeClaim -}}
{{- end -}}
{{- end -}}

{{/* The service whose program a component runs: the cluster resources are made by projects. */}}
{{- define "flyteplane.program" -}}
{{- if eq . "cluster-resources" -}}projects{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{/* The values of a component: (list root component). */}}
{{- define "flyteplane.component" -}}
{{- if eq (index . 1) "cluster-resources" -}}
{{- toYaml (index . 0).Values.clusterResources -}}
{{- else -}}
{{- toYaml (index (index . 0).Values (index . 1)) -}}
{{- end -}}
{{- end -}}

{{/* Whether a component calls API servers, of any cluster: (list root component). "true" or empty. */}}
{{- define "flyteplane.callsClusters" -}}
{{- $root := index . 0 -}}
{{- if or (eq (index . 1) "cluster-resources") (and (eq (index . 1) "executions") (eq $root.Values.engine.type "kubernetes")) -}}
true
{{- end -}}
{{- end -}}

{{/* Whether the chart's own cluster is among the engine's. "true" or empty. */}}
{{- define "flyteplane.ownCluster" -}}
{{- $own := not .Values.engine.clusters -}}
{{- range .Values.engine.clusters -}}{{- if not .existingSecret -}}{{- $own = true -}}{{- end -}}{{- end -}}
{{- if $own -}}true{{- end -}}
{{- end -}}

{{/* The setting `clusters`. */}}
{{- define "flyteplane.clusters" -}}
{{- $clusters := list -}}
{{- range .Values.engine.clusters -}}
{{- $cluster := dict "id" .id "enabled" (ne (toString .enabled) "false") -}}
{{- $folder := printf "/etc/flyteplane/clusters/%s" .id -}}
{{- if .server -}}
{{- $_ := set $cluster "server" .server -}}
{{- $_ := set $cluster "ca_file" (printf "%s/ca.crt" $folder) -}}
{{- $_ := set $cluster "token_file" (printf "%s/token" $folder) -}}
{{- else if .existingSecret -}}
{{- $_ := set $cluster "kubeconfig" (printf "%s/kubeconfig" $folder) -}}
{{- with .context -}}{{- $_ := set $cluster "context" . -}}{{- end -}}
{{- end -}}
{{- $clusters = append $clusters $cluster -}}
{{- end -}}
{{- toYaml (dict "clusters" $clusters) -}}
{{- end -}}

{{/* The URL of a service's database, without a password: (list root service). */}}
{{- define "flyteplane.databaseUrl" -}}
{{- $root := index . 0 -}}{{- $service := include "flyteplane.program" (index . 1) -}}
{{- $own := (index $root.Values $service).database -}}
{{- $user := $own.user | default $service | urlquery -}}
{{- $name := $own.name | default $service | urlquery -}}
{{- if $root.Values.trial.postgresql.enabled -}}
postgresql://{{ $user }}@{{ include "flyteplane.host" (list $root "postgresql") }}:5432/{{ $name }}?sslmode=disable
{{- else -}}
{{- $host := required "database.host: needed unless trial.postgresql is enabled" $root.Values.database.host -}}
postgresql://{{ $user }}@{{ $host }}:{{ $root.Values.database.port }}/{{ $name }}?sslmode={{ $root.Values.database.sslMode }}
{{- if and (hasPrefix "verify-" $root.Values.database.sslMode) (not $root.Values.database.caSecret.name) -}}
{{- fail "database.caSecret: needed for database.sslMode verify-ca and verify-full" -}}
{{- end -}}
{{- with $root.Values.database.caSecret.name }}&sslrootcert=/etc/flyteplane/database-ca/{{ $root.Values.database.caSecret.key }}{{ end }}
{{- range $key, $value := $root.Values.database.parameters }}&{{ urlquery $key }}={{ urlquery $value }}{{ end }}
{{- end -}}
{{- end -}}

{{/* The URL of NATS for a service; Kubernetes fills the password in: (list root service). */}}
{{- define "flyteplane.natsUrl" -}}
{{- $root := index . 0 -}}{{- $service := include "flyteplane.program" (index . 1) -}}
{{- $scheme := "nats" -}}{{- $servers := list (printf "%s:4222" (include "flyteplane.host" (list $root "nats"))) -}}
{{- if not $root.Values.trial.nats.enabled -}}
{{- $servers = $root.Values.nats.servers -}}
{{- if not $servers -}}{{- fail "nats.servers: needed unless trial.nats is enabled" -}}{{- end -}}
{{- if $root.Values.nats.tls -}}{{- $scheme = "tls" -}}{{- end -}}
{{- end -}}
{{- $urls := list -}}
{{- range $servers -}}
{{- $urls = append $urls (printf "%s://%s:$(NATS_PASSWORD)@%s" $scheme $service .) -}}
{{- end -}}
{{ join "," $urls }}
{{- end -}}

{{/* The Secret of the parts for trials. */}}
{{- define "flyteplane.trialSecret" -}}{{ include "flyteplane.name" (list . "trial") }}{{- end -}}

{{/* A reference to the password of a service's role in its database: (list root service). */}}
{{- define "flyteplane.databasePassword" -}}
{{- $root := index . 0 -}}{{- $service := include "flyteplane.program" (index . 1) -}}
{{- $own := (index $root.Values $service).database.existingSecret -}}
{{- if $own.name -}}
secretKeyRef: {name: {{ $own.name }}, key: {{ $own.key | default $service }}}
{{- else if $root.Values.trial.postgresql.enabled -}}
secretKeyRef: {name: {{ include "flyteplane.trialSecret" $root }}, key: database-{{ $service }}}
{{- else -}}
secretKeyRef: {name: {{ required "database.existingSecret: needed unless trial.postgresql is enabled" $root.Values.database.existingSecret }}, key: {{ $service }}}
{{- end -}}
{{- end -}}

{{/* A reference to the password of a service's user of NATS: (list root service). */}}
{{- define "flyteplane.natsPassword" -}}
{{- $root := index . 0 -}}{{- $service := include "flyteplane.program" (index . 1) -}}
{{- if $root.Values.trial.nats.enabled -}}
secretKeyRef: {name: {{ include "flyteplane.trialSecret" $root }}, key: nats-{{ $service }}}
{{- else -}}
secretKeyRef: {name: {{ required "nats.existingSecret: needed unless trial.nats is enabled" $root.Values.nats.existingSecret }}, key: {{ $service }}}
{{- end -}}
{{- end -}}

{{/* A reference to the key that signs URLs of a folder. */}}
{{- define "flyteplane.signingKey" -}}
{{- if .Values.objectStore.signingKeySecret.name -}}
secretKeyRef: {name: {{ .Values.objectStore.signingKeySecret.name }}, key: {{ .Values.objectStore.signingKeySecret.key }}}
{{- else if .Values.trial.objectStore.enabled -}}
secretKeyRef: {name: {{ include "flyteplane.trialSecret" . }}, key: signing-key}
{{- else -}}
{{- fail "objectStore.signingKeySecret: needed for a file:// store" -}}
{{- end -}}
{{- end -}}

{{/* Environment variables of a service that are the same when it serves and when it migrates: (list root service). */}}
{{- define "flyteplane.databaseEnv" -}}
- name: PGPASSWORD
  valueFrom: {{ include "flyteplane.databasePassword" . | nindent 4 }}
- name: FLYTEPLANE_DATABASE_URL
  value: {{ include "flyteplane.databaseUrl" . | quote }}
{{- end -}}

{{/* The environment variable with the secret by which a service knows the gateway: (list root). */}}
{{- define "flyteplane.gatewaySecretEnv" -}}
{{- $auth := (index . 0).Values.auth -}}
{{- if $auth.gatewaySecret.name }}
- name: FLYTEPLANE_GATEWAY_SECRET
  valueFrom:
    secretKeyRef: {name: {{ $auth.gatewaySecret.name }}, key: {{ required "auth.gatewaySecret.key: needed" $auth.gatewaySecret.key }}}
{{- else if $auth.issuer -}}
{{- fail "auth.gatewaySecret: needed with auth.issuer" -}}
{{- end }}
{{- end -}}

{{/* Not empty if browsers can log in. */}}
{{- define "flyteplane.browserLogin" -}}
{{- $auth := .Values.auth -}}
{{- if and $auth.issuer $auth.browserClient.id -}}
{{- if not (has $auth.browserClient.id $auth.audiences) }}{{ fail "auth.audiences: must have auth.browserClient.id" }}{{ end -}}
true
{{- end -}}
{{- end -}}

{{/* The environment variable with the secret of the client of browsers: (list root service). */}}
{{- define "flyteplane.browserSecretEnv" -}}
{{- $secret := (index . 0).Values.auth.browserClient.existingSecret -}}
{{- if and (eq (index . 1) "projects") (include "flyteplane.browserLogin" (index . 0)) $secret.name }}
- name: FLYTEPLANE_LOGIN_CLIENT_SECRET
  valueFrom:
    secretKeyRef: {name: {{ $secret.name }}, key: {{ required "auth.browserClient.existingSecret.key: needed" $secret.key }}}
{{- end }}
{{- end -}}

{{/* Environment variables for the object store: (list root). */}}
{{- define "flyteplane.objectsEnv" -}}
{{- $root := index . 0 -}}
{{- range $name, $value := $root.Values.objectStore.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with $root.Values.objectStore.googleKeySecret }}
{{- if .name }}
- name: GOOGLE_SERVICE_ACCOUNT
  value: /etc/flyteplane/google/{{ .key }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Volumes of a service, and their mounts, as two lists of one dict: (list root service). */}}
{{- define "flyteplane.serviceVolumes" -}}
{{- $root := index . 0 -}}{{- $service := index . 1 -}}
{{- $usesObjects := has $service (fromYaml (include "flyteplane.objectUsers" $root)).services -}}
volumes:
  - name: settings
    configMap: {name: {{ include "flyteplane.name" . }}}
  - name: tmp
    emptyDir: {}
  {{- if and $root.Values.database.caSecret.name (not $root.Values.trial.postgresql.enabled) }}
  - name: database-ca
    secret: {secretName: {{ $root.Values.database.caSecret.name }}}
  {{- end }}
  {{- if and $root.Values.nats.tls (not $root.Values.trial.nats.enabled) }}
  {{- with $root.Values.nats.caSecret.name }}
  - name: nats-ca
    secret: {secretName: {{ . }}}
  {{- end }}
  {{- with $root.Values.nats.clientCertificateSecret }}
  - name: nats-certificate
    secret: {secretName: {{ . }}}
  {{- end }}
  {{- end }}
  {{- if and $root.Values.authorization.bindings (ne $service "cluster-resources") }}
  - name: authorization
    configMap: {name: {{ include "flyteplane.name" (list $root "authorization") }}}
  {{- end }}
  {{- if and (eq $service "projects") $root.Values.auth.caSecret.name }}
  - name: auth-ca
    secret: {secretName: {{ $root.Values.auth.caSecret.name }}}
  {{- end }}
  {{- if $usesObjects }}
  {{- if include "flyteplane.localObjects" $root }}
  - name: objects
    persistentVolumeClaim: {claimName: {{ include "flyteplane.objectsClaim" $root }}}
  {{- end }}
  {{- with $root.Values.objectStore.googleKeySecret.name }}
  - name: google
    secret: {secretName: {{ . }}}
  {{- end }}
  {{- with $root.Values.objectStore.caSecret.name }}
  - name: objects-ca
    secret: {secretName: {{ . }}}
  {{- end }}
  {{- end }}
  {{- if include "flyteplane.callsClusters" . }}
  {{- range $root.Values.engine.clusters }}
  {{- if .existingSecret }}
  - name: cluster-{{ .id }}
    secret: {secretName: {{ .existingSecret }}}
  {{- end }}
  {{- end }}
  {{- end }}
  {{- if eq $service "cluster-resources" }}
  - name: templates
    configMap: {name: {{ include "flyteplane.name" (list $root "cluster-resource-templates") }}}
  {{- end }}
mounts:
  - {name: settings, mountPath: /etc/flyteplane/settings, readOnly: true}
  - {name: tmp, mountPath: /tmp}
  {{- if and $root.Values.database.caSecret.name (not $root.Values.trial.postgresql.enabled) }}
  - {name: database-ca, mountPath: /etc/flyteplane/database-ca, readOnly: true}
  {{- end }}
  {{- if and $root.Values.nats.tls (not $root.Values.trial.nats.enabled) }}
  {{- if $root.Values.nats.caSecret.name }}
  - {name: nats-ca, mountPath: /etc/flyteplane/nats-ca, readOnly: true}
  {{- end }}
  {{- if $root.Values.nats.clientCertificateSecret }}
  - {name: nats-certificate, mountPath: /etc/flyteplane/nats-certificate, readOnly: true}
  {{- end }}
  {{- end }}
  {{- if and $root.Values.authorization.bindings (ne $service "cluster-resources") }}
  - {name: authorization, mountPath: /etc/flyteplane/authorization, readOnly: true}
  {{- end }}
  {{- if and (eq $service "projects") $root.Values.auth.caSecret.name }}
  - {name: auth-ca, mountPath: /etc/flyteplane/auth-ca, readOnly: true}
  {{- end }}
  {{- if $usesObjects }}
  {{- if include "flyteplane.localObjects" $root }}
  - {name: objects, mountPath: {{ include "flyteplane.objectsUrl" $root | trimPrefix "file://" }}}
  {{- end }}
  {{- if $root.Values.objectStore.googleKeySecret.name }}
  - {name: google, mountPath: /etc/flyteplane/google, readOnly: true}
  {{- end }}
  {{- if $root.Values.objectStore.caSecret.name }}
  - {name: objects-ca, mountPath: /etc/flyteplane/objects-ca, readOnly: true}
  {{- end }}
  {{- end }}
  {{- if include "flyteplane.callsClusters" . }}
  {{- range $root.Values.engine.clusters }}
  {{- if .existingSecret }}
  - {name: cluster-{{ .id }}, mountPath: /etc/flyteplane/clusters/{{ .id }}, readOnly: true}
  {{- end }}
  {{- end }}
  {{- end }}
  {{- if eq $service "cluster-resources" }}
  - {name: templates, mountPath: /etc/flyteplane/cluster-resource-templates, readOnly: true}
  {{- end }}
{{- end -}}

{{/* The settings file of a service: what the chart connects, then the service's own settings: (list root service). */}}
{{- define "flyteplane.settings" -}}
{{- $root := index . 0 -}}{{- $service := index . 1 -}}
{{- $ports := fromYaml (include "flyteplane.ports" $root) -}}
{{- $made := dict "log_level" $root.Values.logLevel "drain_seconds" $root.Values.drainSeconds -}}
{{- $_ := set $made "max_message_bytes" (int64 $root.Values.maxMessageBytes) -}}
{{- range $listener, $port := $ports -}}
{{- $_ := set $made (printf "%s_address" $listener) (printf "0.0.0.0:%v" $port) -}}
{{- end -}}
{{- if and $root.Values.nats.tls (not $root.Values.trial.nats.enabled) -}}
{{- with $root.Values.nats.caSecret -}}{{- if .name -}}{{- $_ := set $made "nats_ca_file" (printf "/etc/flyteplane/nats-ca/%s" .key) -}}{{- end -}}{{- end -}}
{{- if $root.Values.nats.clientCertificateSecret -}}
{{- $_ := set $made "nats_certificate_file" "/etc/flyteplane/nats-certificate/tls.crt" -}}
{{- $_ := set $made "nats_key_file" "/etc/flyteplane/nats-certificate/tls.key" -}}
{{- end -}}
{{- end -}}
{{- if has $service (fromYaml (include "flyteplane.objectUsers" $root)).services -}}
{{- $_ := set $made "objects_url" (include "flyteplane.objectsUrl" $root) -}}
{{- $store := $root.Values.objectStore -}}
{{- range $setting, $value := dict "objects_buckets" $store.buckets "objects_endpoint" $store.endpoint "objects_region" $store.region "objects_azure_account" $store.azureAccount -}}
{{- with $value -}}{{- $_ := set $made $setting . -}}{{- end -}}
{{- end -}}
{{- if not $store.pathStyle -}}{{- $_ := set $made "objects_path_style" false -}}{{- end -}}
{{- with $store.caSecret -}}{{- if .name -}}{{- $_ := set $made "objects_ca_file" (printf "/etc/flyteplane/objects-ca/%s" .key) -}}{{- end -}}{{- end -}}
{{- end -}}
{{- if has $service (list "registry" "executions") -}}
{{- $_ := set $made "metadata_storage_prefix" $root.Values.metadataStoragePrefix -}}
{{- with $root.Values.taskResourceLimits -}}{{- $_ := set $made "task_resource_limits" . -}}{{- end -}}
{{- end -}}
{{- if eq $service "executions" -}}
{{- $_ := set $made "public_url" (include "flyteplane.publicUrl" $root) -}}
{{- $_ := set $made "engine" $root.Values.engine.type -}}
{{- end -}}
{{- $auth := $root.Values.auth -}}
{{- if $auth.gatewaySecret.name -}}
{{- $_ := set $made "subject_claims" $auth.subjectClaims -}}
{{- $_ := set $made "client_claims" $auth.clientClaims -}}
{{- end -}}
{{- if ne $service "cluster-resources" -}}
{{- if $root.Values.authorization.bindings -}}
{{- $_ := set $made "authorization_policy" "/etc/flyteplane/authorization/policy.yaml" -}}
{{- end -}}
{{- if $root.Values.audit.enabled -}}
{{- $_ := set $made "audit_log" true -}}
{{- $_ := set $made "audit_log_days" (int64 $root.Values.audit.days) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $service "projects") $auth.issuer -}}
{{- $client := $auth.publicClient -}}
{{- $_ := set $made "auth_issuer" $auth.issuer -}}
{{- with $auth.caSecret -}}{{- if .name -}}{{- $_ := set $made "auth_ca_file" (printf "/etc/flyteplane/auth-ca/%s" .key) -}}{{- end -}}{{- end -}}
{{- range $setting, $value := dict "id" $client.id "redirect_uri" $client.redirectUri "scopes" $client.scopes "audience" $client.audience "header" $client.header -}}
{{- $_ := set $made (printf "auth_client_%s" $setting) $value -}}
{{- end -}}
{{- if include "flyteplane.browserLogin" $root -}}
{{- $browser := $auth.browserClient -}}
{{- $_ := set $made "public_url" (include "flyteplane.publicUrl" $root) -}}
{{- range $setting, $value := dict "client_id" $browser.id "scopes" $browser.scopes "redirect_origins" $browser.redirectOrigins -}}
{{- $_ := set $made (printf "login_%s" $setting) $value -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if include "flyteplane.callsClusters" . -}}
{{- $made = mergeOverwrite $made (fromYaml (include "flyteplane.clusters" $root)) -}}
{{- end -}}
{{- if has $service (list "executions" "cluster-resources") -}}
{{- $_ := set $made "namespace_template" $root.Values.engine.namespaceTemplate -}}
{{- end -}}
{{- $own := deepCopy (index $root.Values (include "flyteplane.program" $service)).settings -}}
{{- if eq $service "cluster-resources" -}}
{{- $_ := set $made "cluster_resource_templates" "/etc/flyteplane/cluster-resource-templates" -}}
{{- $own = mergeOverwrite $own (deepCopy $root.Values.clusterResources.settings) -}}
{{- end -}}
{{- toYaml (mergeOverwrite $made $own) -}}
{{- end -}}
