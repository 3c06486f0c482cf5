{{/* What the pods of all components have in common. All take dict root, component, values. */}}

{{- define "memory.podMetadata" -}}
metadata:
  labels:
    {{- include "memory.podLabels" . | nindent 4 }}
  {{- $annotations := merge (dict "kubectl.kubernetes.io/default-container" .component) .values.podAnnotations .root.Values.commonAnnotations }}
  annotations:
    {{- toYaml $annotations | nindent 4 }}
{{- end -}}

{{/* Where pods go, who they are, how they end. `token`: whether they may talk to the API server. */}}
{{- define "memory.podBase" -}}
serviceAccountName: {{ include "memory.serviceAccountName" . }}
automountServiceAccountToken: {{ .token }}
# Variables for every Service of the namespace would only slow the start and could shadow ours.
enableServiceLinks: false
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- $secrets := uniq (concat .root.Values.global.imagePullSecrets .root.Values.imagePullSecrets) }}
{{- with $secrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range .values.topologySpreadConstraints }}
  - {{- toYaml . | nindent 4 }}
    {{- if not .labelSelector }}
    labelSelector:
      matchLabels:
        {{- include "memory.selector" $ | nindent 8 }}
    {{- end }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Settings of a container that the user may add to: extraEnv, extraEnvFrom, resources, security. */}}
{{- define "memory.containerBase" -}}
imagePullPolicy: {{ .image.pullPolicy }}
securityContext:
  {{- toYaml .root.Values.containerSecurityContext | nindent 2 }}
resources:
  {{- toYaml .values.resources | nindent 2 }}
{{- with .values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Variables that all processes of the operator's image need. */}}
{{- define "memory.storeEnv" -}}
- name: MEMORY_DATABASE_URL_FILE
  value: /etc/memory/database/url
- name: MEMORY_LOG_FORMAT
  value: {{ .root.Values.logs.format }}
{{- end -}}

{{/* Variables of the init container. The database may be starting with us. */}}
{{- define "memory.migrateEnv" -}}
{{ include "memory.storeEnv" . }}
- name: MEMORY_MIGRATE_WAIT_SECONDS
  value: "300"
{{- with include "memory.apiRole" .root }}
- name: MEMORY_API_ROLE
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Variables of a process. What the withheld Secrets hold is ours: a Provider that names one of them is refused. */}}
{{- define "memory.processEnv" -}}
{{ include "memory.storeEnv" . }}
- name: MEMORY_MASTER_KEY_FILE
  value: /etc/memory/master-key/key
- name: MEMORY_PROBE_PORT
  value: "8081"
- name: MEMORY_DATABASE_CONNECTIONS
  value: {{ .values.databaseConnections | quote }}
{{- with .root.Values.providers.credentialEnvVars }}
- name: MEMORY_CREDENTIAL_ENV_VARS
  value: {{ join "," . | quote }}
{{- end }}
{{- with .root.Values.providers.credentialDirectory }}
- name: MEMORY_CREDENTIAL_DIRECTORY
  value: {{ . | quote }}
{{- end }}
{{ include "memory.tracingEnv" . }}
- name: MEMORY_WITHHELD_SECRETS
  value: {{ include "memory.ownSecrets" .root | quote }}
{{- with .env }}
{{ . }}
{{- end }}
{{- end -}}

{{/* Variables of the OpenTelemetry SDK, where traces are wanted. */}}
{{- define "memory.tracingEnv" -}}
{{- with .root.Values.tracing }}
{{- if .endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
- name: OTEL_SERVICE_NAME
  value: {{ include "memory.fullname" $.root }}-{{ $.component }}
- name: K8S_POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.namespace.name={{ $.root.Release.Namespace }},k8s.pod.name=$(K8S_POD_NAME)
{{- with .sampler }}
- name: OTEL_TRACES_SAMPLER
  value: {{ . }}
{{- end }}
{{- with .samplerArg }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The port of the collector, as text. */}}
{{- define "memory.tracingPort" -}}
{{- $url := urlParse .Values.tracing.endpoint -}}
{{- if regexMatch ":[0-9]+$" $url.host -}}
{{- regexFind "[0-9]+$" $url.host -}}
{{- else -}}
{{- ternary "443" "80" (eq $url.scheme "https") -}}
{{- end -}}
{{- end -}}

{{/*
The pod template of operator, API and worker: one image, one init container, one process.
dict root, component, values, command, env (text), ports (text), readiness (text), preStopSeconds,
mounts (text), volumes (text)
*/}}
{{- define "memory.fillEnv" -}}
- name: MEMORY_FILLS_AT_ONCE
  value: {{ .Values.worker.fillsAtOnce | quote }}
- name: MEMORY_LEDGER_DAYS
  value: {{ .Values.worker.ledgerDays | quote }}
{{- end }}

{{- define "memory.process" -}}
{{- $image := .root.Values.image -}}
{{- $base := dict "root" .root "component" .component "values" .values "token" true "image" $image -}}
{{- $limited := and (eq .component "api") (not (empty (include "memory.apiRole" .root))) -}}
{{ include "memory.podMetadata" $base }}
spec:
  {{- include "memory.podBase" $base | nindent 2 }}
  initContainers:
    {{- if $limited }}
    # Its role may not migrate: it waits until the operator's pod has.
    {{- else }}
    # Once per release: whoever comes second waits for the first one's lock and finds nothing left to do.
    {{- end }}
    - name: migrate
      image: {{ include "memory.image" (dict "root" .root "image" $image) }}
      args: [migrate{{ if $limited }}, --only-wait{{ end }}]
      {{- include "memory.containerBase" $base | nindent 6 }}
      {{- include "memory.env" (dict "own" (include "memory.migrateEnv" .) "extra" .values.extraEnv) | nindent 6 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: database, mountPath: /etc/memory/database, readOnly: true}
        {{- with .values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "memory.image" (dict "root" .root "image" $image) }}
      args:
        {{- if .root.Values.logs.verbose }}
        - --verbose
        {{- end }}
        - {{ .command }}
        {{- with .values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- include "memory.containerBase" $base | nindent 6 }}
      {{- include "memory.env" (dict "own" (include "memory.processEnv" .) "extra" .values.extraEnv) | nindent 6 }}
      ports:
        {{- with .ports }}
        {{- . | nindent 8 }}
        {{- end }}
        - {name: metrics, containerPort: 8081}
      # /livez answers from the first second on; the database may still be starting then.
      startupProbe:
        httpGet: {path: /livez, port: metrics}
        periodSeconds: 1
        timeoutSeconds: 5
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /livez, port: metrics}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        {{- .readiness | nindent 8 }}
      {{- with .preStopSeconds }}
      lifecycle:
        preStop:
          # Long enough for every kube-proxy to stop sending new connections here.
          sleep: {seconds: {{ . }}}
      {{- end }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: database, mountPath: /etc/memory/database, readOnly: true}
        - {name: master-key, mountPath: /etc/memory/master-key, readOnly: true}
        {{- with .mounts }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with .values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: 256Mi}
    # A file, not a variable: a rotated password reaches it while the process runs.
    - name: database
      secret:
        {{- include (ternary "memory.apiDatabaseSecret" "memory.databaseSecret" (eq .component "api")) .root | nindent 8 }}
        defaultMode: 0440
    - name: master-key
      secret:
        {{- include "memory.masterKeySecret" .root | nindent 8 }}
        defaultMode: 0440
    {{- with .volumes }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with .values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
