{{/*
The passwords of the parts for trials: those of the Secret that is there, else new ones, made once for all templates.
`helm template` finds no Secret, so each of its runs makes others.
*/}}
{{- define "flyteplane.trialPasswords" -}}
{{- if not (hasKey .Values.trial "passwords") -}}
{{- $present := (lookup "v1" "Secret" .Release.Namespace (include "flyteplane.trialSecret" .)).data | default dict -}}
{{- $passwords := dict -}}
{{- range $key := list "superuser" "signing-key" "database-registry" "database-executions" "database-events" "database-projects" "database-datacatalog" "nats-registry" "nats-executions" "nats-events" "nats-projects" -}}
{{- $_ := set $passwords $key (ternary (get $present $key | b64dec) (randAlphaNum 32) (hasKey $present $key)) -}}
{{- end -}}
{{- $_ := set .Values.trial "passwords" $passwords -}}
{{- end -}}
{{- toYaml .Values.trial.passwords -}}
{{- end -}}
