package protocol

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A library that reads hears of the end after the last request is handed over,
// and what it writes until then is taken.
func TestDrainHoldsTheEndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		var d Drain
		c := d.Conn(near, 0)
		for range 2 {
			if !d.Begin() {
				t.Fatal("no request may begin on a new connection")
			}
		}
		failed := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			failed <- err
		}()
		d.Done()
		_ = far.Close()
		synctest.Wait()
		if d.Begin() || !d.Closed() {
			t.Error("a request may begin after the end")
		}
		if n, err := c.Write([]byte("dropped")); n != 7 || err != nil {
			t.Errorf("Write after the end = %d, %v; want it taken", n, err)
		}
		if len(failed) > 0 {
			t.Error("Read failed while a request was under way")
		}
		d.Done()
		if err := <-failed; !errors.Is(err, io.EOF) {
			t.Errorf("Read = %v, want io.EOF", err)
		}
	})
}

// A failed write shows in Read with its reason, and ends a connection whose peer
// says nothing.
func TestDrainReportsAFailedWrite(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var d Drain
	c := d.Conn(conn, 0)
	_ = conn.SetWriteDeadline(time.Unix(1, 0))
	if _, err := c.Write([]byte("x")); err != nil {
		t.Errorf("Write = %v, want its failure in Read", err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read = %v, want why the write failed", err)
	}
}

// paho takes net.ErrClosed for its own doing, and would wait for ever.
func TestDrainHidesThatItsConnectionWasClosed(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	var d Drain
	c := d.Conn(near, 0)
	_ = near.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, errConnClosed) || strings.Contains(err.Error(), net.ErrClosed.Error()) {
		t.Errorf("Read = %v, want %v", err, errConnClosed)
	}
}

// The library closes the connection when it takes nothing any more, so Read does
// not wait for requests then.
func TestDrainDoesNotWaitForTheLibrary(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	var d Drain
	c := d.Conn(near, 0)
	d.Begin()
	_ = c.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("Read of a closed connection succeeded")
	}
}

func TestDrainEndsASilentConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		var d Drain
		c := d.Conn(near, time.Minute)
		for range 3 { // what comes keeps it open
			go func() {
				time.Sleep(50 * time.Second)
				_, _ = far.Write([]byte("x"))
			}()
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("Read = %v after %v, want a time-out after a minute", err, time.Since(began))
		}
	})
}
