package proxy

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"time"
	"unsafe"
)

// slimAfter is how long a connection must be idle before its TLS buffers are freed.
const slimAfter = time.Second

// tlsBuffers are the offsets, within tls.Conn, of the buffers in which it collects a record and
// handshake messages. crypto/tls keeps these buffers at their largest size for the life of the
// connection: some 2 KiB after a handshake, and up to 33 KiB once a full record has passed. An
// empty buffer holds nothing that matters, so it can be replaced by a new one. If a Go version has
// no such fields, the list is empty, the buffers stay, and a test fails.
var tlsBuffers = func() (offsets []uintptr) {
	for _, name := range []string{"rawInput", "hand"} {
		f, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
		if !ok || f.Type != reflect.TypeFor[bytes.Buffer]() {
			return nil
		}
		offsets = append(offsets, f.Offset)
	}
	return offsets
}()

// partial reports whether a TLS record has begun and is not complete. It returns false if tls.Conn
// has no such field.
func (t *tlsLayer) partial() bool {
	if t == nil || len(tlsBuffers) == 0 {
		return false
	}
	return (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(t.conn), tlsBuffers[0])).Len() > 0
}

// slim frees the buffers that are empty. Nothing else may use the connection during the call: only
// the event loop may call it, or the goroutine that sets the connection up. (What tls.Conn.Read has
// decrypted and not returned yet keeps its memory alive.)
func (t *tlsLayer) slim() {
	if t == nil {
		return
	}
	for _, at := range tlsBuffers {
		if b := (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(t.conn), at)); b.Len() == 0 {
			*b = bytes.Buffer{}
		}
	}
}

// slim frees the empty TLS buffers of both sides.
func (x *pair) slim() {
	x.client.tls.slim()
	x.up.tls.slim()
	x.slimmed = true
}

// unslim is called when bytes move again. The buffers grow then, so it makes the wheel check the
// pair again soon.
func (x *pair) unslim() {
	if x.slimmed {
		x.slimmed = false
		if x.inWheel && x.closeBy == 0 {
			x.loop.wheel.remove(x)
			x.loop.wheel.add(x, x.slimTime(x.last+x.proxy.ticks(x.proxy.config.IdleTimeout)))
		}
	}
}

// slimTime returns the tick at which to check whether the pair idles, if it has TLS buffers to
// free; otherwise due.
func (x *pair) slimTime(due uint32) uint32 {
	if x.client.tls == nil && x.up.tls == nil {
		return due
	}
	if soon := x.loop.wheel.now + x.proxy.ticks(slimAfter); int32(soon-due) < 0 {
		return soon
	}
	return due
}
