{{/* Addresses at which clouds hand out credentials of their machines, and whole link-local networks. */}}
{{- define "the0.metadata" -}}
v4: [169.254.0.0/16, 100.100.100.200/32, 168.63.129.16/32, 192.0.0.192/32]
v6: ["fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128"]
{{- end -}}

{{/* The first number and the size of an IPv4 network, as "first/size". */}}
{{- define "the0.range" -}}
{{- $parts := splitList "/" . -}}
{{- $size := 1 -}}
{{- range until (sub 32 (index $parts 1 | int) | int) }}{{ $size = mul $size 2 }}{{ end -}}
{{- $number := 0 -}}
{{- range splitList "." (index $parts 0) }}{{ $number = add (mul $number 256) (int .) }}{{ end -}}
{{- printf "%d/%d" (mul (div $number $size) $size) $size -}}
{{- end -}}

{{/* "yes" if the IPv4 network `of` lies in the network `in`, both of the dict. */}}
{{- define "the0.lies" -}}
{{- $in := include "the0.range" .in | splitList "/" -}}
{{- $of := include "the0.range" .of | splitList "/" -}}
{{- $start := index $of 0 | int64 -}}
{{- $first := index $in 0 | int64 -}}
{{- $size := index $in 1 | int64 -}}
{{- if and (ge $size (index $of 1 | int64)) (ge $start $first) (lt $start (add $first $size)) }}yes{{ end -}}
{{- end -}}

{{/* A peer that is the network `cidr`, without metadata addresses and without `deny`; `what` names the value. */}}
{{- define "the0.block" -}}
{{- $cidr := .cidr -}}
{{- $what := .what -}}
{{- $metadata := include "the0.metadata" . | fromYaml -}}
{{- $except := .deny -}}
{{- if contains ":" $cidr -}}
{{- $length := splitList "/" $cidr | last | int -}}
{{- if eq $cidr "::/0" -}}
{{- $except = concat $metadata.v6 $except -}}
{{- else if or (lt $length 48) (regexMatch "^(fe[89ab][0-9a-f]:|fd00:0*ec2:|fd20:0*ce:)" (lower $cidr)) -}}
{{- fail (printf "%s: %s may have addresses in it at which clouds hand out credentials: name a smaller network, of /48 or less" $what $cidr) -}}
{{- end -}}
{{- else -}}
{{- range $metadata.v4 -}}
{{- if include "the0.lies" (dict "of" $cidr "in" .) -}}
{{- fail (printf "%s: at %s clouds hand out credentials" $what $cidr) -}}
{{- end -}}
{{- if include "the0.lies" (dict "of" . "in" $cidr) }}{{ $except = append $except . }}{{ end -}}
{{- end -}}
{{- end -}}
- ipBlock:
    cidr: {{ $cidr | quote }}
    {{- with $except | uniq | sortAlpha }}
    except:
      {{- range . }}
      - {{ . | quote }}
      {{- end }}
    {{- end }}
{{- end -}}

{{/* Where bots may go: everywhere but `deny` and metadata addresses, and to `allow`. */}}
{{- define "the0.outside" -}}
{{- $bots := .Values.networkPolicies.bots -}}
{{- $v4 := list }}{{ $v6 := list -}}
{{- range $bots.deny -}}
{{- if contains ":" . }}{{ $v6 = append $v6 . }}{{ else }}{{ $v4 = append $v4 . }}{{ end -}}
{{- end -}}
{{- include "the0.block" (dict "cidr" "0.0.0.0/0" "deny" $v4 "what" "") }}
{{ include "the0.block" (dict "cidr" "::/0" "deny" $v6 "what" "") }}
{{- range $bots.allow }}
{{ include "the0.block" (dict "cidr" . "deny" list "what" "networkPolicies.bots.allow") }}
{{- end }}
{{- end -}}

{{/* A rule of the controllers' ingress, unless nobody is named: an empty `from` would mean everybody. */}}
{{- define "the0.from" -}}
{{- if .from }}
- from: {{- toYaml .from | nindent 4 }}
  ports: [{ protocol: TCP, port: {{ .port }} }]
{{- end }}
{{- end -}}
