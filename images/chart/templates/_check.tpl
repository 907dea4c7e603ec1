{{/* What a schema cannot say: values that do not go together are refused with what to do. */}}
{{- define "the0.check" -}}
{{- $values := .Values -}}
{{- $secret := list "MINIO_ACCESS_KEY" "MINIO_SECRET_KEY" "MINIO_SESSION_TOKEN" "MINIO_ACCESS_KEY_ID" "MINIO_SECRET_ACCESS_KEY" "THE0_NOTICE_URL" -}}
{{- range $name, $value := $values.env -}}
{{- if or (has $name $secret) (regexMatch "://[^/]*@" (toString $value)) -}}
{{- fail (printf "env.%s: it may hold a credential, and values are for everybody to read: put it into the Secret %s (existingSecret)" $name $values.existingSecret) -}}
{{- end -}}
{{- end -}}
{{- $given := keys $values.env -}}
{{- range $values.extraEnv -}}
{{- $given = append $given .name -}}
{{- if and (hasKey . "value") (or (has .name $secret) (regexMatch "://[^/]*@" (toString .value))) -}}
{{- fail (printf "extraEnv: %s may hold a credential, and values are for everybody to read: give it by valueFrom.secretKeyRef" .name) -}}
{{- end -}}
{{- end -}}
{{- range $name, $by := include "the0.own" . | fromYaml -}}
{{- if has $name $given -}}
{{- fail (printf "%s is set by the chart: use %s" $name $by) -}}
{{- end -}}
{{- end -}}
{{- if ne (len $given) (len (uniq $given)) -}}
{{- fail "env and extraEnv: a variable is given twice" -}}
{{- end -}}
{{- if and $values.ca.existingSecret $values.ca.existingConfigMap -}}
{{- fail "ca: name existingSecret or existingConfigMap, not both" -}}
{{- end -}}
{{- if and $values.api.enabled (not $values.api.tokens.existingSecret) -}}
{{- fail "api.enabled: whoever reaches it could stop bots: name a Secret of tokens in api.tokens.existingSecret" -}}
{{- end -}}
{{- if and $values.bots.createNamespace (eq (include "the0.bots" .) .Release.Namespace) -}}
{{- fail "bots.createNamespace: name another namespace than the release's in bots.namespace" -}}
{{- end -}}
{{- if and $values.bots.quota (eq (include "the0.bots" .) .Release.Namespace) -}}
{{- fail "bots.quota: bots that fill it would keep the controllers out of their own namespace: name another one in bots.namespace" -}}
{{- end -}}
{{- if and (ne $values.service.type "ClusterIP") $values.gateway.enabled (not $values.gateway.tokens.existingSecret) -}}
{{- fail (printf "service.type %s: whoever reaches it could ask every bot: name a Secret of tokens in gateway.tokens.existingSecret" $values.service.type) -}}
{{- end -}}
{{- if lt (int $values.terminationGracePeriodSeconds) (add (int $values.lingerSeconds) 40) -}}
{{- fail "terminationGracePeriodSeconds: give it 40 s more than lingerSeconds: the agent answers what it was asked" -}}
{{- end -}}
{{- if and (ne $values.service.type "ClusterIP") (not $values.gateway.enabled) (not $values.api.enabled) -}}
{{- fail (printf "service.type %s: it would lead to nothing: enable gateway or api" $values.service.type) -}}
{{- end -}}
{{- $before := include "the0.placeBefore" . -}}
{{- $now := include "the0.place" . -}}
{{- if and $before (ne $before $now) (ne $before $values.bots.movedFrom) -}}
{{- fail (printf "the bots are Pods of %s (namespace/stack), and with these values all would be started again as %s beside them: `agent drain` first, then set bots.movedFrom: %s" $before $now $before) -}}
{{- end -}}
{{- if and $values.networkPolicies.enabled $values.metrics.serviceMonitor.enabled (not $values.networkPolicies.controller.metricsFrom) -}}
{{- fail "metrics.serviceMonitor: Prometheus reaches nothing while networkPolicies.controller.metricsFrom is empty: name its namespace there" -}}
{{- end -}}
{{- end -}}

{{/* Variables that the chart sets, and the values that they come from. */}}
{{- define "the0.own" -}}
LOG_FORMAT: log.format
LOG_LEVEL: log.level
QUERY_SERVER_PORT: gateway.enabled
RUNTIME_IMAGE: images.bots
THE0_API_ADDRESS: api.enabled
THE0_API_TOKENS: api.tokens
THE0_CA_FILE: ca
THE0_DATA: dataSize
THE0_GATEWAY_ADDRESS: gateway.enabled
THE0_HEALTH_LISTEN: nothing, its port is 8080
THE0_NAMESPACE: bots.namespace
THE0_POD_TEMPLATE: bots.pod
THE0_PULL: images.pullPolicy
THE0_QUERY_TOKENS: gateway.tokens
THE0_STACK: stack
{{- end -}}
