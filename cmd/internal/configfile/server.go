package configfile

const serverFile = `# Sandpiper control plane. Every key is optional; the values below are the defaults.
# An unknown key is an error. Flags of ` + "`sandpiper serve`" + ` win over this file.

# The fleet that devices join: a-z, 0-9, _ and -, at most 32 characters.
fleet = {{q .Fleet}}

# debug, info, warn or error.
log_level = {{q (level .LogLevel)}}

[broker]
# Address of the embedded MQTT broker. Loopback only.
listen = {{q .Broker.Listen}}
# What ` + "`fleet add`" + ` writes into agent.toml; empty: tcp:// and the address above.
advertise = {{q .Broker.Advertise}}
# An external broker, tcp://host:port or tls://host:port, instead of the embedded one.
url = {{q .Broker.URL}}
# The control plane's user name there (empty: c.FLEET) and a file with its password.
username = {{q .Broker.Username}}
password_file = {{q .Broker.PasswordFile}}

[http]
# Address of the HTTP API; empty: none. DIR/api.sock is always there.
listen = {{q .HTTP.Listen}}

[limits]
# Connections to the embedded broker at one time.
max_clients = {{.Limits.MaxClients}}
# Largest upload of one training or evaluation request, bytes.
max_upload_bytes = {{.Limits.MaxUploadBytes}}
`
