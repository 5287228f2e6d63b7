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

{{- /* How an admission policy of this name begins, for requests of the controller, after the binding that puts it in
force: a list of the chart's context and the name. */}}
{{- define "l4way.admissionPolicy" -}}
{{- $ := index . 0 }}
{{- $name := index . 1 -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ $name }}
  labels:
    {{- include "l4way.labels" $ | nindent 4 }}
spec:
  policyName: {{ $name }}
  validationActions: [Deny]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ $name }}
  labels:
    {{- include "l4way.labels" $ | nindent 4 }}
spec:
  failurePolicy: Fail
  matchConditions:
    - name: by-the-controller
      expression: request.userInfo.username == 'system:serviceaccount:{{ $.Release.Namespace }}:{{ $.Values.serviceAccount.name }}'
{{- end }}

{{- /* In CEL, whether two names are those of one Gateway's objects: the same, or one with a hash. */}}
{{- define "l4way.sameGateway" -}}
{{- $a := index . 0 }}
{{- $b := index . 1 -}}
({{ $a }} == {{ $b }}
|| {{ $a }}.matches('^(gw-)?' + {{ $b }} + '-[0-9a-f]{10}$')
|| {{ $b }}.matches('^(gw-)?' + {{ $a }} + '-[0-9a-f]{10}$'))
{{- end }}
