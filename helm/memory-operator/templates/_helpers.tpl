{{/* Names, labels and images that all templates share. */}}

{{- define "memory.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The release's name is the prefix of all objects: release "memory" has memory-operator, memory-api, … */}}
{{- define "memory.fullname" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Cluster-scoped names hold the namespace too, so that two releases of one name do not meet. */}}
{{- define "memory.clusterName" -}}
{{- printf "%s-%s" (include "memory.fullname" .) .Release.Namespace -}}
{{- end -}}

{{- define "memory.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* What selects the pods of a component; never changes, since a Deployment's selector cannot. dict root, component */}}
{{- define "memory.selector" -}}
app.kubernetes.io/name: {{ include "memory.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/*
Labels of every object, each once: what selects pods, then commonLabels, then the chart's own.
dict root, component (optional)
*/}}
{{- define "memory.labels" -}}
{{- $own := dict "helm.sh/chart" (include "memory.chart" .root) "app.kubernetes.io/version" .root.Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "memory-operator" -}}
{{- $fixed := dict "app.kubernetes.io/name" (include "memory.name" .root) "app.kubernetes.io/instance" .root.Release.Name -}}
{{- with .component }}{{- $_ := set $fixed "app.kubernetes.io/component" . -}}{{- end -}}
{{- toYaml (merge $fixed .root.Values.commonLabels $own) -}}
{{- end -}}

{{/*
Labels of pods: only what selects them and what the user adds. A version would restart pods, the bundled database's
too, at an upgrade that changes nothing in them. dict root, component, values
*/}}
{{- define "memory.podLabels" -}}
{{- toYaml (merge (include "memory.selector" . | fromYaml) .values.podLabels .root.Values.commonLabels) -}}
{{- end -}}

{{/* `env`, each name once, since server-side apply refuses two of one name: the user's win. dict own (text), extra */}}
{{- define "memory.env" -}}
{{- $given := dict -}}
{{- range .extra -}}{{- $_ := set $given .name . -}}{{- end -}}
{{- $all := list -}}
{{- range printf "%s\n" .own | fromYamlArray -}}
{{- if not (hasKey $given .name) -}}{{- $all = append $all . -}}{{- end -}}
{{- end -}}
{{- range .extra -}}
{{- if hasKey $given .name -}}{{- $all = append $all (get $given .name) -}}{{- $_ := unset $given .name -}}{{- end -}}
{{- end -}}
{{- if $all }}
env:
  {{- toYaml $all | nindent 2 }}
{{- end }}
{{- end -}}

{{/* `annotations:` of an object, from commonAnnotations and its own; nothing when there are none. dict root, own */}}
{{- define "memory.annotations" -}}
{{- $all := merge (dict) (default (dict) .own) .root.Values.commonAnnotations -}}
{{- with $all }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* An image's reference. dict root, image */}}
{{- define "memory.image" -}}
{{- $registry := default .image.registry .root.Values.global.imageRegistry -}}
{{- $name := .image.repository -}}
{{- if $registry -}}{{- $name = printf "%s/%s" (trimSuffix "/" $registry) $name -}}{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Name of a component's ServiceAccount. dict root, component, values */}}
{{- define "memory.serviceAccountName" -}}
{{- $own := printf "%s-%s" (include "memory.fullname" .root) .component -}}
{{- if .values.serviceAccount.create -}}
{{- default $own .values.serviceAccount.name -}}
{{- else -}}
{{- required (printf "%s.serviceAccount.create is false: set %s.serviceAccount.name to the ServiceAccount that it shall use" .component .component) .values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The served namespaces, as a JSON list. */}}
{{- define "memory.servedNamespaces" -}}
{{- default (list .Release.Namespace) .Values.providers.namespaces | uniq | toJson -}}
{{- end -}}

{{/* "true" where an adapter answers metrics from outside. KEDA's answers those of its own ScaledObjects only. */}}
{{- define "memory.workerScalesOnPending" -}}
{{- $metric := .Values.worker.autoscaling.metric -}}
{{- if or (eq $metric "pendingChunks") (and (eq $metric "auto") (.Capabilities.APIVersions.Has "external.metrics.k8s.io/v1beta1") (not (.Capabilities.APIVersions.Has "keda.sh/v1alpha1"))) -}}
true
{{- end -}}
{{- end -}}

{{/* "true" where the operator fills, since nobody else is there to do it. */}}
{{- define "memory.operatorFills" -}}
{{- if kindIs "bool" .Values.operator.fill -}}
{{- if .Values.operator.fill -}}true{{- end -}}
{{- else if not (or .Values.worker.autoscaling.enabled .Values.worker.keda.enabled (gt (int .Values.worker.replicaCount) 0)) -}}
true
{{- end -}}
{{- end -}}
