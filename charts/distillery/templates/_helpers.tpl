{{- define "distillery.name" -}}
{{- if contains "distillery" .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-distillery" .Release.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "distillery.selector" -}}
app.kubernetes.io/name: distillery-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "distillery.labels" -}}
{{ include "distillery.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "distillery.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "distillery.name" .) }}
{{- end }}

{{- define "distillery.subjects" -}}
subjects:
  - kind: ServiceAccount
    name: {{ include "distillery.serviceAccount" . }}
    namespace: {{ .Release.Namespace }}
{{- end }}

{{/* The name of an image. Takes a list: the root, and the image. */}}
{{- define "distillery.image" -}}
{{- $root := index . 0 }}{{ $image := index . 1 }}
{{- $registry := ($root.Values.global).imageRegistry | default $image.registry | default $root.Values.registry }}
{{- $registry = required "registry: name the registry with Distillery's images, such as registry.example.com/team (localhost for images that are loaded into the nodes)" $registry }}
{{- trimSuffix "/" $registry }}/{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* For the operator, and by default for all pods of runs. */}}
{{- define "distillery.imagePullSecrets" -}}
{{ concat (($.Values.global).imagePullSecrets | default list) .Values.imagePullSecrets | uniq | toJson }}
{{- end }}

{{/* The operator's rights where runs are. hack/testbed compares them with the verbs it uses. */}}
{{- define "distillery.rules" -}}
- apiGroups: [distillery.dev]
  resources: [distillationruns]
  verbs: [list, watch]
- apiGroups: [distillery.dev]
  resources: [distillationruns/status]
  verbs: [patch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list, watch, create, delete]
- apiGroups: [""]
  resources: [pods] # of those that serve an annotation is changed
  verbs: [list, watch, patch]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [secrets] # of quick-start databases; never read
  verbs: [create]
- apiGroups: [""]
  resources: [events]
  verbs: [list, create]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
{{- end }}
