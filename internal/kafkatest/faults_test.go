package kafkatest

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// echo serves connections that send back what they get.
func echo(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return ln.Addr().String()
}

func dial(t *testing.T, f *Faults) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", f.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

func roundTrip(t *testing.T, conn net.Conn, msg string) {
	t.Helper()
	if _, err := conn.Write([]byte(msg)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, len(msg))
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != msg {
		t.Fatalf("got %q, %v, want %q", buf, err, msg)
	}
}

func TestFaultsForward(t *testing.T) {
	f := NewFaults(t, echo(t))
	conn := dial(t, f)
	roundTrip(t, conn, "through")
	// An end of stream passes, after what was sent before it.
	big := make([]byte, 8<<20)
	go func() {
		_, _ = conn.Write(big)
		_ = conn.CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil || len(got) != len(big) {
		t.Errorf("%d bytes, %v, want %d", len(got), err, len(big))
	}
	WaitFor(t, 10*time.Second, "the connection to be forgotten", func() (bool, string) { return f.Conns() == 0, "" })
}

func TestFaultsCut(t *testing.T) {
	f := NewFaults(t, echo(t))
	conn := dial(t, f)
	roundTrip(t, conn, "before")
	f.Cut()
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read from a cut connection: %v, want a reset", err)
	}
	if c, err := net.Dial("tcp", f.Addr()); err == nil {
		c.Close()
		t.Error("a connection was accepted while cut")
	}
	f.Resume()
	conn = dial(t, f)
	roundTrip(t, conn, "after")
	f.Reset()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("read from a reset connection succeeded")
	}
	roundTrip(t, dial(t, f), "again")
}

func TestFaultsStall(t *testing.T) {
	f := NewFaults(t, echo(t))
	conn := dial(t, f)
	roundTrip(t, conn, "before")
	f.Stall()
	if _, err := conn.Write([]byte("held")); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes while stalled, %v", n, err)
	}
	_ = conn.SetReadDeadline(time.Time{})
	f.Resume()
	buf := make([]byte, 4)
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "held" {
		t.Errorf("after the stall: %q, %v", buf, err)
	}
}

// TestFaultsStallOneWay: if requests are stalled, the target does not carry them out; if answers
// are stalled, it does. The other direction passes.
func TestFaultsStallOneWay(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	f := NewFaults(t, ln.Addr().String())
	client := dial(t, f)
	target, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	for _, way := range []struct {
		name       string
		stall      func()
		held, free [2]net.Conn // from, to
	}{
		{"requests", f.StallRequests, [2]net.Conn{client, target}, [2]net.Conn{target, client}},
		{"answers", f.StallAnswers, [2]net.Conn{target, client}, [2]net.Conn{client, target}},
	} {
		t.Run(way.name, func(t *testing.T) {
			way.stall()
			if _, err := way.held[0].Write([]byte("held")); err != nil {
				t.Fatal(err)
			}
			if _, err := way.free[0].Write([]byte("free")); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 4)
			if _, err := io.ReadFull(way.free[1], buf); err != nil || string(buf) != "free" {
				t.Errorf("the other way: %q, %v", buf, err)
			}
			_ = way.held[1].SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if n, err := way.held[1].Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("read %d bytes while stalled, %v", n, err)
			}
			_ = way.held[1].SetReadDeadline(time.Time{})
			f.Resume()
			if _, err := io.ReadFull(way.held[1], buf); err != nil || string(buf) != "held" {
				t.Errorf("after the stall: %q, %v", buf, err)
			}
		})
	}
}

func TestFaultsDelay(t *testing.T) {
	f := NewFaults(t, echo(t))
	conn := dial(t, f)
	f.Delay(30 * time.Millisecond)
	begin := time.Now()
	roundTrip(t, conn, "slowly")
	if took := time.Since(begin); took < 60*time.Millisecond {
		t.Errorf("a round trip took %v, less than both delays", took)
	}
}

// TestFaultsFineDelay: half a millisecond is not rounded up to a whole one. The best of many round
// trips shows that it is shorter.
func TestFaultsFineDelay(t *testing.T) {
	f := NewFaults(t, echo(t))
	conn := dial(t, f)
	const half, whole = 500 * time.Microsecond, time.Millisecond
	best := map[time.Duration]time.Duration{half: time.Hour, whole: time.Hour}
	for range 50 {
		for delay := range best {
			f.Delay(delay)
			begin := time.Now()
			roundTrip(t, conn, "quickly")
			best[delay] = min(best[delay], time.Since(begin))
		}
	}
	if best[half] < 2*half || best[half] > best[whole]*9/10 {
		t.Errorf("the shortest round trips took %v", best)
	}
}

// TestFaultsStrand: bytes that a client sent before its connection broke arrive after Unstrand;
// until then new connections pass.
func TestFaultsStrand(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	f := NewFaults(t, ln.Addr().String())
	pair := func() (client, target net.Conn) {
		client = dial(t, f)
		target, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { target.Close() })
		return client, target
	}
	seen := make(chan string, 1)
	f.Watch(func(b []byte) { seen <- string(b) })
	old, oldTarget := pair()
	f.StallRequests()
	if _, err := old.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; got != "late" {
		t.Fatalf("watched %q", got)
	}
	f.Strand()
	if _, err := old.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the client's connection: %v, want a reset", err)
	}
	f.Watch(nil)
	fresh, freshTarget := pair()
	if _, err := fresh.Write([]byte("new!")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4)
	if _, err := io.ReadFull(freshTarget, buf); err != nil || string(buf) != "new!" {
		t.Errorf("a new connection: %q, %v", buf, err)
	}
	_ = oldTarget.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := oldTarget.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d stranded bytes, %v", n, err)
	}
	_ = oldTarget.SetReadDeadline(time.Time{})
	f.Unstrand()
	if got, err := io.ReadAll(oldTarget); err != nil || string(got) != "late" {
		t.Errorf("at last: %q, %v", got, err)
	}
}
