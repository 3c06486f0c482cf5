{{/*
Combinations that the schema cannot tell, each refused in words that say what to do. Whatever else refuses to render
includes this first, since Helm renders templates in no particular order.
*/}}
{{- define "memory.validate" -}}
{{- $ways := list -}}
{{- if .Values.database.url -}}{{- $ways = append $ways "database.url" -}}{{- end -}}
{{- if .Values.database.existingSecret -}}{{- $ways = append $ways "database.existingSecret" -}}{{- end -}}
{{- if .Values.postgresql.embedded -}}{{- $ways = append $ways "postgresql.embedded" -}}{{- end -}}
{{- if not $ways -}}
{{- fail "a database is needed: set database.existingSecret (a Secret with a postgresql:// URL under the key uri), or database.url, or, to try it out, postgresql.embedded=true" -}}
{{- end -}}
{{- if gt (len $ways) 1 -}}
{{- fail (printf "choose one database: %s are set" (join " and " $ways)) -}}
{{- end -}}
{{- if ne (empty .Values.database.api.role) (empty .Values.database.api.existingSecret) -}}
{{- fail "database.api.role and database.api.existingSecret go together: the role of the API, and the Secret with its URL" -}}
{{- end -}}
{{- if and (eq .Values.auth.mode "tokens") (not .Values.auth.tokens.existingSecret) -}}
{{- fail "auth.mode is tokens: set auth.tokens.existingSecret to a Secret with the token file (docs/rbac.md has its form)" -}}
{{- end -}}
{{- if and .Values.worker.autoscaling.enabled (gt (int .Values.worker.autoscaling.minReplicas) (int .Values.worker.autoscaling.maxReplicas)) -}}
{{- fail "worker.autoscaling.minReplicas is above maxReplicas" -}}
{{- end -}}
{{- if and .Values.worker.autoscaling.enabled .Values.worker.keda.enabled -}}
{{- fail "worker.autoscaling and worker.keda both choose how many workers there are: enable one of them" -}}
{{- end -}}
{{- if and .Values.worker.keda.enabled (gt (int .Values.worker.keda.minReplicas) (int .Values.worker.keda.maxReplicas)) -}}
{{- fail "worker.keda.minReplicas is above maxReplicas" -}}
{{- end -}}
{{- if and .Values.metrics.podMonitor.enabled .Values.metrics.serviceMonitor.enabled -}}
{{- fail "metrics.podMonitor and metrics.serviceMonitor read the same figures: enable one of them" -}}
{{- end -}}
{{- if and .Values.api.ingress.enabled (not .Values.api.ingress.hosts) -}}
{{- fail "api.ingress is enabled: set api.ingress.hosts, such as [memory.example.com]" -}}
{{- end -}}
{{- if and .Values.webhook.enabled (eq .Values.webhook.tls.mode "existingSecret") (not .Values.webhook.tls.existingSecret) -}}
{{- fail "webhook.tls.mode is existingSecret: set webhook.tls.existingSecret to a Secret with tls.crt and tls.key" -}}
{{- end -}}
{{- end -}}
