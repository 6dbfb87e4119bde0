package configfile

const agentFile = `# Sandpiper agent. This file is all that device {{.Device}} needs, and it holds the
# device's credential: keep it readable by the agent only (mode 0600).

fleet = {{q .Fleet}}
device = {{q .Device}}

# The MQTT broker, tcp://host:port or tls://host:port, and the identity there.
broker = {{q .Broker}}
username = {{q .Username}}
token = {{q .Token}}

# Models and agent.sock. A relative path is taken from the folder of this file.
data_dir = {{q .DataDir}}

# debug, info, warn or error.
log_level = {{q (level .LogLevel)}}

# What to fetch when no update from a version here can be used: "full", the whole
# version, or "never", for a metered link; then a first version comes from a file.
{{if .Fallback}}fallback = {{q .Fallback}}{{else}}# fallback = "full"{{end}}

# Answer requests on sp1/{{.Fleet}}/d/{{.Device}}/p/MODEL, which name no user, on …/o/MODEL,
# for tools that know fixed topics only. They are counted for "anonymous".
{{if .Simple}}simple = true{{else}}# simple = true{{end}}

# The signed root document: the keys this device trusts for releases and rollouts.
root = {{q (base64 .Root)}}
{{with .Local}}{{if .Listen}}
# MQTT for clients beside this device, on the topics of the broker, with or
# without a way there.
[local]
listen = {{q .Listen}}
{{- with .Cert}}
cert = {{q .}}
{{- end}}
{{- with .Key}}
key = {{q .}}
{{- end}}
{{- if .Plaintext}}
plaintext = true
{{- end}}
{{- if .Users}}

[local.users]
{{- range $name, $hash := .Users}}
{{$name}} = {{q $hash}}
{{- end}}
{{- end}}
{{else}}
# MQTT for clients beside this device, on the topics of the broker, with or
# without a way there. Other machines need users and a certificate.
# [local]
# listen = "127.0.0.1:1883"
# cert = "local.crt"        # PEM; with key, for TLS
# key = "local.key"
# [local.users]             # none: everybody on this machine
# ann = "…"                 # from: sandpiper-agent token
{{end}}{{end}}{{with .HomeAssistant}}{{if .Via}}
# Sensors and an update button in Home Assistant, by its MQTT discovery.
[home_assistant]
via = {{q .Via}}
{{- with .Prefix}}
prefix = {{q .}}
{{- end}}
{{else}}
# Sensors and an update button in Home Assistant, by its MQTT discovery: "local"
# where it connects to this device, "broker" where both connect to one of yours.
# [home_assistant]
# via = "local"
{{end}}{{end}}{{if or .Limits.QuotaBytes .Limits.DailyBytes .Limits.QueueLen .Limits.Trial .Limits.Slowdown}}
[limits]
{{- with .Limits.QuotaBytes}}
quota_bytes = {{.}}
{{- end}}
{{- with .Limits.DailyBytes}}
daily_bytes = {{.}}
{{- end}}
{{- with .Limits.QueueLen}}
queue_len = {{.}}
{{- end}}
{{- with .Limits.Trial}}
trial = {{q .String}}
{{- end}}
{{- with .Limits.Slowdown}}
slowdown = {{.}}
{{- end}}
{{else}}
# [limits]
# quota_bytes = 67108864   # model cache on disk
# daily_bytes = 0          # most that downloads cost in 24 hours of running, for metered links; 0: no limit
# queue_len = 256          # prediction requests that may wait; one more answers busy
# trial = "10s"            # how long a new version is on trial before it is kept
# slowdown = 8             # how many times as long as the one before it may take for a prediction; -1: any
{{end}}`
