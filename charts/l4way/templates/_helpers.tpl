{{- /* What the controller's pods are selected by. It never changes, as a Deployment's selector can't. */}}
{{- define "l4way.selector" -}}
app.kubernetes.io/name: l4way
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end }}

{{- define "l4way.labels" -}}
{{ include "l4way.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "l4way.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
