package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// overTLS puts a TLS front before the broker of d's configuration, with a
// certificate of its own that the agent's process trusts. close ends it.
func overTLS(d *device) (closeFront func(), err error) {
	b, err := os.ReadFile(d.config)
	if err != nil {
		return nil, err
	}
	host, port, err := brokerAddress(d.config)
	if err != nil {
		return nil, err
	}
	certificate, file, err := selfSigned(filepath.Dir(d.config))
	if err != nil {
		return nil, err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		return nil, err
	}
	d.env = append(d.env, "SSL_CERT_FILE="+file)
	plain := net.JoinHostPort(host, port)
	b = bytes.Replace(b, []byte("tcp://"+plain), []byte("tls://"+l.Addr().String()), 1)
	if err := os.WriteFile(d.config, b, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { relay(c, plain) })
		}
	})
	return func() { l.Close(); open.Wait() }, nil
}

// relay joins c to a new connection to address until one of them ends.
func relay(c net.Conn, address string) {
	defer c.Close()
	to, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(to, c) // ends with either
		to.Close()
	})
	_, _ = io.Copy(c, to)
	c.Close()
	back.Wait()
}

// selfSigned makes a certificate for 127.0.0.1 and a PEM file of it.
func selfSigned(dir string) (tls.Certificate, string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, "", err
	}
	file := filepath.Join(dir, "broker.crt")
	err = os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file, err
}

// agentPSS measures an agent with LSTM(128) that is connected over TLS: when
// nothing was asked of it for a while, and while it answers 10 requests a second
// that come over that connection.
func agentPSS(ctx context.Context, h *house) (string, error) {
	var closeFront func()
	s, d, window, err := h.boilerDevice(ctx, 1, func(d *device) (err error) { closeFront, err = overTLS(d); return err })
	if closeFront != nil {
		defer closeFront()
	}
	if err != nil {
		return "", err
	}
	defer s.close()
	defer d.remove()
	client, err := s.newClient(ctx, "ann")
	if err != nil {
		return "", err
	}
	defer client.Close()
	if err := d.settled(ctx, "boiler"); err != nil {
		return "", err
	}
	if err := rest(ctx, 5*time.Second); err != nil { // the start's memory is given back after two seconds
		return "", err
	}
	idle, err := d.pss()
	if err != nil {
		return "", err
	}
	busy := 0.0
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := range 150 {
		<-tick.C
		if _, err := client.Ask(ctx, d.id, "boiler", window); err != nil {
			return "", err
		}
		if i < 50 || i%10 != 0 {
			continue
		}
		now, err := d.pss()
		if err != nil {
			return "", err
		}
		busy = max(busy, now)
	}
	return fmt.Sprintf("%.1f MB idle, %.1f MB at most at 10 requests/s", idle, busy), atMost(max(idle, busy), 10)
}

func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// pss returns the proportional share of resident memory of the agent's
// process, MB of 10⁶ bytes.
func (d *device) pss() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", d.cmd.Process.Pid))
	if err != nil {
		return 0, needs("%v", err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			return float64(kb) * 1024 / 1e6, err
		}
	}
	return 0, needs("smaps_rollup has no Pss line")
}

// agentStart times from the start of the process to its first answer, with
// LSTM(128) in the cache.
func agentStart(ctx context.Context, h *house) (string, error) {
	s, d, window, err := h.boilerDevice(ctx, 1)
	if err != nil {
		return "", err
	}
	defer s.close()
	defer d.remove()
	if err := d.settled(ctx, "boiler"); err != nil { // a kill on trial counts as a crash
		return "", err
	}
	var ms []float64
	for range 9 {
		d.kill()
		began := time.Now()
		if err := d.launch(ctx); err != nil {
			return "", err
		}
		for {
			if _, err = d.predict("boiler", window); err == nil {
				break
			}
			if time.Since(began) > 30*time.Second {
				return "", fmt.Errorf("no answer: %w: %s", err, d.logged())
			}
			if err := rest(ctx, time.Millisecond); err != nil {
				return "", err
			}
		}
		ms = append(ms, time.Since(began).Seconds()*1e3)
	}
	m := median(ms)
	return fmt.Sprintf("%.0f ms, the median of %d starts", m, len(ms)), atMost(m, 200)
}
