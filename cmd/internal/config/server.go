package config

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
)

// Server is sandpiper.toml, the configuration of the control plane. Every key
// is optional; DefaultServer has the defaults.
type Server struct {
	Fleet    string     `toml:"fleet"`     // fleet id
	LogLevel slog.Level `toml:"log_level"` // debug, info, warn or error
	Broker   Broker     `toml:"broker"`
	HTTP     HTTP       `toml:"http"`
	Limits   Limits     `toml:"limits"`
}

// Broker says which MQTT broker the fleet meets on: the embedded one, or an
// external one when URL is set.
type Broker struct {
	Listen string `toml:"listen"` // address of the embedded broker, host:port

	// Advertise is the URL that `fleet add` writes into agent.toml; empty
	// means tcp:// and the address of Listen, or URL.
	Advertise string `toml:"advertise"`

	URL          string `toml:"url"`           // external broker, tcp:// or tls://; empty: embedded
	Username     string `toml:"username"`      // at the external broker; c.FLEET by default
	PasswordFile string `toml:"password_file"` // file with the password there, relative to this file
}

// HTTP configures the HTTP API.
type HTTP struct {
	Listen string `toml:"listen"` // host:port; empty switches HTTP over TCP off
}

// Limits bounds what one peer may use.
type Limits struct {
	MaxClients     int   `toml:"max_clients"`      // connections to the embedded broker
	MaxUploadBytes int64 `toml:"max_upload_bytes"` // body of a training or evaluation request, bytes
}

// DefaultServer returns the configuration that an empty file means.
func DefaultServer() Server {
	return Server{
		Fleet:  "default",
		Broker: Broker{Listen: "127.0.0.1:1883"},
		HTTP:   HTTP{Listen: "127.0.0.1:8080"},
		Limits: Limits{MaxClients: 20000, MaxUploadBytes: 1 << 30},
	}
}

// LoadServer reads sandpiper.toml at path; a file that does not exist means
// the defaults. Mistakes in the file are of type *Error.
func LoadServer(path string) (Server, error) {
	s := DefaultServer()
	doc, err := decode(path, &s)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return Server{}, err
	}
	if err := s.check(doc); err != nil {
		return Server{}, err
	}
	if f := s.Broker.PasswordFile; f != "" && !filepath.IsAbs(f) {
		s.Broker.PasswordFile = filepath.Join(filepath.Dir(path), f)
	}
	return s, nil
}

// BrokerURL returns the URL under which devices reach the broker.
func (s *Server) BrokerURL() string {
	switch {
	case s.Broker.Advertise != "":
		return s.Broker.Advertise
	case s.Broker.URL != "":
		return s.Broker.URL
	default:
		return "tcp://" + s.Broker.Listen
	}
}

// check reports the first key that is outside its range.
func (s *Server) check(doc *document) error {
	if s.Fleet == "" {
		return doc.errorf("fleet", "empty; write an id such as \"default\"")
	}
	if err := checkID(doc, "fleet", s.Fleet, 32); err != nil {
		return err
	}
	if s.Broker.URL == "" && s.Broker.Listen == "" {
		return doc.errorf("broker.listen", "empty, and broker.url names no external broker; write an address such as \"127.0.0.1:1883\"")
	}
	listen := []struct{ key, value string }{{"broker.listen", s.Broker.Listen}, {"http.listen", s.HTTP.Listen}}
	for _, l := range listen {
		if l.value == "" {
			continue
		}
		if err := checkListen(doc, l.key, l.value); err != nil {
			return err
		}
	}
	urls := []struct{ key, value string }{{"broker.url", s.Broker.URL}, {"broker.advertise", s.Broker.Advertise}}
	for _, u := range urls {
		if u.value == "" {
			continue
		}
		if err := checkBroker(doc, u.key, u.value); err != nil {
			return err
		}
	}
	switch l := s.Limits; {
	case l.MaxClients < 1 || l.MaxClients > 1<<20:
		return doc.errorf("limits.max_clients", "%d is outside 1 to 1048576", l.MaxClients)
	case l.MaxUploadBytes < 1<<10 || l.MaxUploadBytes > 1<<40:
		return doc.errorf("limits.max_upload_bytes", "%d is outside 1024 (1 KiB) to 1099511627776 (1 TiB)", l.MaxUploadBytes)
	}
	return nil
}

// checkListen reports an address that net.Listen would not take.
func checkListen(doc *document, key, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return doc.errorf(key, "%q is not an address; write host:port, such as \"127.0.0.1:1883\"", addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return doc.errorf(key, "%q is not a port; write a number from 1 to 65535, or 0 for any free one", port)
	}
	if !Loopback(host) {
		return doc.errorf(key, "%q is reachable from other machines, and this listener has no TLS; write a loopback address such as \"127.0.0.1:%s\"", addr, port)
	}
	return nil
}

// Loopback reports whether host means this machine only.
func Loopback(host string) bool {
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
