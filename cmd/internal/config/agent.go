package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Agent is agent.toml: all that one device needs to join its fleet. The file
// holds a credential, so it is written with mode 0600.
type Agent struct {
	Fleet  string `toml:"fleet"`  // fleet id; required
	Device string `toml:"device"` // device id; required

	Broker   string `toml:"broker"`   // tcp://host:port or tls://host:port; required
	Username string `toml:"username"` // broker user name; d.DEVICE by default
	Token    string `toml:"token"`    // broker password; required, secret

	// Root is the signed root document, the device's trust anchor; required.
	Root Base64 `toml:"root"`

	// DataDir holds the model cache and agent.sock. A relative path is taken
	// from the folder of agent.toml; LoadAgent makes it absolute. Required.
	DataDir string `toml:"data_dir"`

	LogLevel slog.Level `toml:"log_level"` // debug, info (default), warn or error

	// Fallback is what is fetched when no update from a version on the device can
	// be used: full (default), or never, for a metered link.
	Fallback string `toml:"fallback"`

	// Simple answers requests that name no user, on fixed topics.
	Simple bool `toml:"simple"`

	Local         AgentLocal         `toml:"local"`
	HomeAssistant AgentHomeAssistant `toml:"home_assistant"`

	Limits AgentLimits `toml:"limits"`
}

// AgentLocal is the agent's own MQTT listener, for clients beside the device.
// Paths are made absolute as DataDir is.
type AgentLocal struct {
	Listen    string            `toml:"listen"`    // host:port; empty: none
	Cert      string            `toml:"cert"`      // PEM file with the certificate of the listener
	Key       string            `toml:"key"`       // PEM file with its private key
	Plaintext bool              `toml:"plaintext"` // listen for other machines without a certificate
	Users     map[string]string `toml:"users"`     // by name the SHA-256 of the token, in hex
}

// AgentLimits bounds what an agent uses. A zero takes the agent's default.
type AgentLimits struct {
	QuotaBytes int64    `toml:"quota_bytes"` // size of the model cache on disk, bytes
	DailyBytes int64    `toml:"daily_bytes"` // most that downloads cost in 24 hours, bytes; 0: no limit
	QueueLen   int      `toml:"queue_len"`   // prediction requests that may wait
	Trial      Duration `toml:"trial"`       // how long a new version is on trial
	Slowdown   float64  `toml:"slowdown"`    // how many times as long as the one before a new version may take; -1: any
}

// AgentHomeAssistant shows the device in Home Assistant.
type AgentHomeAssistant struct {
	Via    string `toml:"via"`    // local, broker, or empty: not at all
	Prefix string `toml:"prefix"` // of its topics; homeassistant by default
}

// check reports a setting that leads nowhere.
func (h AgentHomeAssistant) check(doc *document, local AgentLocal) error {
	switch {
	case h.Via != "" && h.Via != "local" && h.Via != "broker":
		return doc.errorf("home_assistant.via", "%q is neither local nor broker; write \"local\" where it connects to this device, \"broker\" where both connect to a broker of yours", h.Via)
	case h.Via == "local" && local.Listen == "":
		return doc.errorf("home_assistant.via", "local, and there is no local listener; set local.listen")
	case h.Via == "" && h.Prefix != "":
		return doc.errorf("home_assistant.via", "missing; write \"local\" or \"broker\"")
	case strings.ContainsAny(h.Prefix, "+#") || strings.HasPrefix(h.Prefix, "sp1") || strings.HasSuffix(h.Prefix, "/"):
		return doc.errorf("home_assistant.prefix", "%q is no beginning of a topic; leave it out for \"homeassistant\"", h.Prefix)
	}
	return nil
}

// LoadAgent reads agent.toml at path. Mistakes in it are of type *Error; a file
// that cannot be read wraps the error of the operating system.
func LoadAgent(path string) (Agent, error) {
	var a Agent
	doc, err := decode(path, &a)
	if err != nil {
		return Agent{}, err
	}
	if a.Username == "" && a.Device != "" {
		a.Username = "d." + a.Device
	}
	if err := a.check(doc); err != nil {
		return Agent{}, err
	}
	for _, p := range []*string{&a.DataDir, &a.Local.Cert, &a.Local.Key} {
		if *p == "" {
			continue
		}
		if !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(path), *p)
		}
		if *p, err = filepath.Abs(*p); err != nil {
			return Agent{}, fmt.Errorf("paths in %s: %w", path, err)
		}
	}
	return a, nil
}

// check reports the first key that is missing or outside its range.
func (a *Agent) check(doc *document) error {
	required := []struct {
		key     string
		missing bool
	}{
		{"fleet", a.Fleet == ""},
		{"device", a.Device == ""},
		{"broker", a.Broker == ""},
		{"token", a.Token == ""},
		{"root", len(a.Root) == 0},
		{"data_dir", a.DataDir == ""},
	}
	for _, r := range required {
		if r.missing {
			return doc.errorf(r.key, "missing; a device cannot start without it: write the file again with `sandpiper fleet add DEVICE --out agent.toml`")
		}
	}
	if err := checkID(doc, "fleet", a.Fleet, 32); err != nil {
		return err
	}
	if err := checkID(doc, "device", a.Device, 48); err != nil {
		return err
	}
	if err := checkBroker(doc, "broker", a.Broker); err != nil {
		return err
	}
	if f := a.Fallback; f != "" && f != "full" && f != "never" {
		return doc.errorf("fallback", "%q is neither full nor never; write \"full\", or \"never\" where whole versions come from a file only", f)
	}
	if err := a.Local.check(doc); err != nil {
		return err
	}
	if err := a.HomeAssistant.check(doc, a.Local); err != nil {
		return err
	}
	switch l := a.Limits; {
	case l.QuotaBytes < 0 || l.QuotaBytes > 0 && l.QuotaBytes < 1<<20:
		return doc.errorf("limits.quota_bytes", "%d is too small for a model cache; write at least 1048576 (1 MiB), or 0 for the default", l.QuotaBytes)
	case l.DailyBytes < 0 || l.DailyBytes > 0 && l.DailyBytes < 128<<10:
		return doc.errorf("limits.daily_bytes", "%d does not carry a download forward; write at least 131072 (128 KiB), or 0 for no limit", l.DailyBytes)
	case l.QueueLen < 0 || l.QueueLen > 1<<16:
		return doc.errorf("limits.queue_len", "%d is outside 1 to 65536; 0 takes the default", l.QueueLen)
	case l.Slowdown != 0 && l.Slowdown != -1 && !(l.Slowdown >= 1 && l.Slowdown <= 1e6):
		return doc.errorf("limits.slowdown", "%g is no factor from 1 to 1000000; write -1 where a new version may take any time, or leave it out for the default, 8", l.Slowdown)
	case l.Trial < 0:
		return doc.errorf("limits.trial", "%s is negative; write a duration such as \"10s\", or leave it out for the default", l.Trial)
	}
	return nil
}

// check refuses a listener that other machines could reach in the clear, or
// without saying who they are.
func (l AgentLocal) check(doc *document) error {
	if l.Listen == "" {
		if len(l.Users) > 0 || l.Cert != "" || l.Key != "" || l.Plaintext {
			return doc.errorf("local.listen", "missing, so that nothing else under local has a use; write an address such as \"127.0.0.1:1883\"")
		}
		return nil
	}
	host, port, err := net.SplitHostPort(l.Listen)
	if n, numErr := strconv.Atoi(port); err != nil || numErr != nil || n < 0 || n > 65535 {
		return doc.errorf("local.listen", "%q is not an address; write host:port, such as \"127.0.0.1:1883\"", l.Listen)
	}
	for _, name := range slices.Sorted(maps.Keys(l.Users)) {
		key := "local.users." + name
		if err := checkID(doc, key, name, 48); err != nil {
			return err
		}
		if b, err := hex.DecodeString(l.Users[name]); err != nil || len(b) != sha256.Size {
			return doc.errorf(key, "not the SHA-256 of a token, 64 hex digits; `sandpiper-agent token` prints a token and this line")
		}
	}
	switch {
	case (l.Cert == "") != (l.Key == ""):
		return doc.errorf("local.cert", "cert and key go together; write both, or neither")
	case Loopback(host):
	case len(l.Users) == 0:
		return doc.errorf("local.listen", "%q is reachable from other machines, and there are no users; name some under local.users, or write \"127.0.0.1:%s\"", l.Listen, port)
	case l.Cert == "" && !l.Plaintext:
		return doc.errorf("local.listen", "%q is reachable from other machines, and there is no certificate; set local.cert and local.key, write \"127.0.0.1:%s\", or set plaintext = true where everybody on the network may read along", l.Listen, port)
	}
	return nil
}

// checkID reports an id outside the protocol's alphabet or longer than limit.
func checkID(doc *document, key, id string, limit int) error {
	if len(id) > limit {
		return doc.errorf(key, "%d characters, and an id has at most %d; choose a shorter one", len(id), limit)
	}
	for i := range len(id) {
		if c := id[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return doc.errorf(key, "%q has %q at byte %d, and an id is made of a-z, 0-9, _ and -; write it without", id, c, i+1)
		}
	}
	return nil
}

// checkBroker reports a URL that no MQTT client here can dial.
func checkBroker(doc *document, key, raw string) error {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "tcp" && u.Scheme != "tls") || u.Hostname() == "" {
		return doc.errorf(key, "not a broker address; write tcp://host:port, or tls://host:port for an encrypted connection")
	}
	if n, err := strconv.Atoi(u.Port()); err != nil || n < 1 || n > 65535 {
		return doc.errorf(key, "no port from 1 to 65535; write %s://%s:1883, or the port your broker listens on", u.Scheme, u.Hostname())
	}
	if u.User != nil {
		return doc.errorf(key, "carries a user name; write it under username and token instead, so that no log shows it")
	}
	if u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return doc.errorf(key, "has something after the port; write %s://%s alone", u.Scheme, u.Host)
	}
	return nil
}
