{{/*
Secrets that are made once and then never change: the master key, the password of the bundled database, the webhook's
certificate. Only `lookup` knows whether they were made already. Where it sees no cluster (helm template, and so most
GitOps tools) every rendering would make new ones, so that is refused and an existing Secret asked for.
*/}}

{{/*
"true" when lookup sees a cluster. The release's namespace can be seen by whoever may install there, and need not exist
yet; the namespace `default` is in every cluster, and can be seen by whoever may make namespaces.
*/}}
{{- define "memory.seesCluster" -}}
{{- if lookup "v1" "Namespace" "" .Release.Namespace -}}
true
{{- else if lookup "v1" "Namespace" "" "default" -}}
true
{{- end -}}
{{- end -}}

{{/* Stop unless a new Secret may be made now. dict root, name, what, instead */}}
{{- define "memory.mayGenerate" -}}
{{- include "memory.validate" .root -}}
{{- if not (include "memory.seesCluster" .root) -}}
{{- fail (printf "%s cannot be made here: without a cluster to look at (helm template, GitOps) each rendering would make another one. Set %s" .what .instead) -}}
{{- end -}}
{{- end -}}

{{/* secretName and items of the volume with the master key. */}}
{{- define "memory.masterKeySecret" -}}
secretName: {{ default (printf "%s-master-key" (include "memory.fullname" .)) .Values.masterKey.existingSecret }}
items:
  - {key: {{ .Values.masterKey.existingSecretKey }}, path: key}
{{- end -}}

{{/* The master key, base64 of what the file holds: the one that is there, else a new one. */}}
{{- define "memory.masterKey" -}}
{{- $name := printf "%s-master-key" (include "memory.fullname" .) -}}
{{- $found := lookup "v1" "Secret" .Release.Namespace $name -}}
{{- if $found -}}
{{- required (printf "Secret %s/%s has no key %s: the master key is missing; restore the Secret" .Release.Namespace $name .Values.masterKey.existingSecretKey) (get (default (dict) $found.data) .Values.masterKey.existingSecretKey) -}}
{{- else -}}
{{- include "memory.mayGenerate" (dict "root" . "what" "the master key" "instead" "masterKey.existingSecret to a Secret that you keep: openssl rand -base64 32 | kubectl create secret generic NAME --from-file=key=/dev/stdin") -}}
{{- if .Release.IsUpgrade -}}
{{- fail (printf "Secret %s/%s with the master key is gone, and another key could read no memory: restore it, or set masterKey.existingSecret" .Release.Namespace $name) -}}
{{- end -}}
{{- randBytes 32 | b64enc -}}
{{- end -}}
{{- end -}}

{{/* secretName and items of the volume with the database URL. */}}
{{- define "memory.databaseSecret" -}}
{{- $name := include "memory.fullname" . -}}
{{- if .Values.database.existingSecret -}}
secretName: {{ .Values.database.existingSecret }}
items:
  - {key: {{ .Values.database.existingSecretKey }}, path: url}
{{- else if .Values.postgresql.embedded -}}
secretName: {{ default (printf "%s-postgresql" $name) .Values.postgresql.auth.existingSecret }}
items:
  - {key: uri, path: url}
{{- else -}}
secretName: {{ $name }}-database
items:
  - {key: uri, path: url}
{{- end -}}
{{- end -}}

{{/* The API's role of the database, which may not change the schema; empty where the API is the owner of the tables. */}}
{{- define "memory.apiRole" -}}
{{- if .Values.database.api.role -}}
{{- .Values.database.api.role -}}
{{- else if and .Values.postgresql.embedded (not .Values.postgresql.auth.existingSecret) -}}
memory_api
{{- end -}}
{{- end -}}

{{/* secretName and items of the volume with the database URL of the API. */}}
{{- define "memory.apiDatabaseSecret" -}}
{{- $api := .Values.database.api -}}
{{- if $api.existingSecret -}}
secretName: {{ $api.existingSecret }}
items:
  - {key: {{ $api.existingSecretKey }}, path: url}
{{- else if include "memory.apiRole" . -}}
secretName: {{ include "memory.fullname" . }}-postgresql
items:
  - {key: api-uri, path: url}
{{- else -}}
{{- include "memory.databaseSecret" . -}}
{{- end -}}
{{- end -}}

{{/*
Password of the API's role in the bundled database, made of the owner's by scrypt: it needs no second look at the
cluster, changes with the owner's, and does not tell it.
*/}}
{{- define "memory.postgresqlApiPassword" -}}
{{- derivePassword 1 "maximum" . "memory_api" "memory-postgresql" | sha256sum -}}
{{- end -}}

{{/* The Secrets that no Provider may name, as namespace/name, by commas. */}}
{{- define "memory.ownSecrets" -}}
{{- $own := list (include "memory.masterKeySecret" . | fromYaml).secretName (include "memory.databaseSecret" . | fromYaml).secretName -}}
{{- $own = concat $own (list .Values.webhook.tls.existingSecret .Values.auth.tokens.existingSecret .Values.database.api.existingSecret .Values.postgresql.auth.existingSecret .Values.test.tokenSecret) -}}
{{- /* Those that this or an earlier release of the chart made, whatever the values say now. */ -}}
{{- range list "master-key" "database" "postgresql" "webhook-tls" "webhook-ca" -}}
{{- $own = append $own (printf "%s-%s" (include "memory.fullname" $) .) -}}
{{- end -}}
{{- $names := list -}}
{{- range $own | compact | uniq -}}{{- $names = append $names (printf "%s/%s" $.Release.Namespace .) -}}{{- end -}}
{{- join "," $names -}}
{{- end -}}

{{/* Password of the bundled database: the one that was given, else the one that is there, else a new one. */}}
{{- define "memory.postgresqlPassword" -}}
{{- $name := printf "%s-postgresql" (include "memory.fullname" .) -}}
{{- if .Values.postgresql.auth.password -}}
{{- .Values.postgresql.auth.password -}}
{{- else -}}
{{- $found := lookup "v1" "Secret" .Release.Namespace $name -}}
{{- if and $found $found.data.password -}}
{{- $found.data.password | b64dec -}}
{{- else -}}
{{- include "memory.mayGenerate" (dict "root" . "what" "the password of the bundled database" "instead" "postgresql.auth.existingSecret to a Secret with the keys password and uri") -}}
{{- randAlphaNum 32 -}}
{{- end -}}
{{- end -}}
{{- end -}}
