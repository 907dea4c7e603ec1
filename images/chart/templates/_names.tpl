{{/* The name of what the chart makes, fit for a Service. Short: something is put behind it. */}}
{{- define "the0.name" -}}
{{- $name := .Release.Name | replace "." "-" -}}
{{- if not (hasPrefix "the0" $name) }}{{ $name = printf "the0-%s" $name }}{{ end -}}
{{- $name | trunc 48 | trimSuffix "-" -}}
{{- end -}}

{{/* By which the controllers' Pods are known. */}}
{{- define "the0.selector" -}}
app.kubernetes.io/name: the0
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: controller
{{- end -}}

{{- define "the0.labels" -}}
{{ include "the0.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end -}}

{{- define "the0.account" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "the0.name" .) -}}
{{- else -}}
{{- required "serviceAccount.name: name the ServiceAccount, since the chart is not to create one" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Where the bots' Pods are. */}}
{{- define "the0.bots" -}}
{{- .Values.bots.namespace | default .Release.Namespace -}}
{{- end -}}

{{/* One name for each stack. */}}
{{- define "the0.stackName" -}}
{{- $stack := .Values.stack -}}
{{- if contains "_" $stack }}{{ $stack = printf "%s-%s" ($stack | replace "_" "-") ($stack | sha256sum | trunc 8) }}{{ end -}}
{{- printf "the0-stack-%s" $stack -}}
{{- end -}}

{{/* Whose they are there. */}}
{{- define "the0.place" -}}
{{- printf "%s/%s" (include "the0.bots" .) .Values.stack -}}
{{- end -}}

{{/* What the release's controllers that are there say of that; nothing where there are none, or no cluster. */}}
{{- define "the0.placeBefore" -}}
{{- $was := lookup "apps/v1" "Deployment" .Release.Namespace (include "the0.name" .) | default dict -}}
{{- range dig "spec" "template" "spec" "containers" list $was -}}
{{- if eq .name "controller" -}}
{{- index .args 2 }}/
{{- range .env }}{{ if eq .name "THE0_STACK" }}{{ .value }}{{ end }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "the0.tag" -}}
{{- .Values.images.tag | default .Chart.AppVersion -}}
{{- end -}}

{{- define "the0.image" -}}
{{- .Values.images.agent | default (printf "%s/agent:%s" .Values.images.prefix (include "the0.tag" .)) -}}
{{- end -}}

{{- define "the0.botImage" -}}
{{- .Values.images.bots | default (printf "%s/{runtime}:%s" .Values.images.prefix (include "the0.tag" .)) -}}
{{- end -}}

{{/* What the operator sets of the bots' Pods. */}}
{{- define "the0.pod" -}}
{{- $pod := .Values.bots.pod | default dict -}}
{{- if .Values.images.pullSecrets -}}
{{- $pod = merge (dict) $pod (dict "imagePullSecrets" .Values.images.pullSecrets) -}}
{{- end -}}
{{- toYaml $pod -}}
{{- end -}}
