{{/* The controller's environment: the chart's own variables, then the operator's. */}}
{{- define "the0.environment" -}}
{{- $values := .Values -}}
{{- $own := dict
      "LOG_FORMAT" $values.log.format
      "LOG_LEVEL" $values.log.level
      "RUNTIME_IMAGE" (include "the0.botImage" .)
      "THE0_API_ADDRESS" (ternary "0.0.0.0:9478" "" $values.api.enabled)
      "THE0_DATA" "/data"
      "THE0_GATEWAY_ADDRESS" (ternary "0.0.0.0:9477" "" $values.gateway.enabled)
      "THE0_HEALTH_LISTEN" "0.0.0.0:8080"
      "THE0_POD_TEMPLATE" "/etc/the0/pod/pod.yaml"
      "THE0_PULL" $values.images.pullPolicy
      "THE0_STACK" $values.stack -}}
{{- if include "the0.hasCa" . }}{{ $_ := set $own "THE0_CA_FILE" "/etc/the0/ca/ca.crt" }}{{ end -}}
{{- if $values.api.enabled }}{{ $_ := set $own "THE0_API_TOKENS" "/run/the0/tokens/api" }}{{ end -}}
{{- if and $values.gateway.enabled $values.gateway.tokens.existingSecret -}}
{{- $_ := set $own "THE0_QUERY_TOKENS" "/run/the0/tokens/gateway" -}}
{{- end -}}
{{- range $name, $value := $own }}
- name: {{ $name }}
  value: {{ $value | toString | replace "$" "$$" | quote }}
{{- end }}
{{- range $name, $value := $values.env }}
- name: {{ $name }}
  value: {{ include "the0.plain" $value | replace "$" "$$" | quote }}
{{- end }}
{{- with $values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A value as a person wrote it: YAML's large numbers are not to become 1e+06. */}}
{{- define "the0.plain" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{- define "the0.hasCa" -}}
{{- if or .Values.ca.existingSecret .Values.ca.existingConfigMap }}yes{{ end -}}
{{- end -}}

{{/* Files of tokens, by their names: a dict of Secrets. */}}
{{- define "the0.tokens" -}}
{{- $tokens := dict -}}
{{- if .Values.api.enabled }}{{ $_ := set $tokens "api" .Values.api.tokens }}{{ end -}}
{{- if and .Values.gateway.enabled .Values.gateway.tokens.existingSecret -}}
{{- $_ := set $tokens "gateway" .Values.gateway.tokens -}}
{{- end -}}
{{- toYaml $tokens -}}
{{- end -}}

{{/* Passes Pod Security "restricted". */}}
{{- define "the0.hardened" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{- define "the0.ports" -}}
- { name: health, containerPort: 8080 }
{{- if .Values.gateway.enabled }}
- { name: gateway, containerPort: 9477 }
{{- end }}
{{- if .Values.api.enabled }}
- { name: api, containerPort: 9478 }
{{- end }}
{{- end -}}
