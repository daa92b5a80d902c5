package proxy

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"time"
	"unsafe"
)

// slimAfter is how long nothing has moved on a connection when its TLS buffers are given back.
const slimAfter = time.Second

// tlsBuffers are the offsets in a tls.Conn of the buffers in which it gathers a record, and the
// messages of a handshake. crypto/tls keeps them at the largest size that they have ever had, for
// the life of the connection: some 2 KiB after a handshake, and up to 33 KiB once a full record has
// passed. Empty, they hold nothing that matters and may as well be new. A Go whose tls.Conn has no
// such fields keeps them: then this list is empty, and a test says so.
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

// partial says that a TLS record has begun and is not complete. false where tls.Conn has no such
// field.
func (t *tlsLayer) partial() bool {
	if t == nil || len(tlsBuffers) == 0 {
		return false
	}
	return (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(t.conn), tlsBuffers[0])).Len() > 0
}

// slim gives back the buffers that are empty. Nobody else may use the connection meanwhile: it is
// for the event loop, or before the connection is on one. (What tls.Conn.Read has decrypted and not
// handed out yet keeps its memory by itself.)
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

// slim gives back what both sides hold.
func (x *pair) slim() {
	x.client.tls.slim()
	x.up.tls.slim()
	x.slimmed = true
}

// unslim is called when something moves: the buffers grow again, so the wheel is to look again
// soon.
func (x *pair) unslim() {
	if x.slimmed {
		x.slimmed = false
		if x.inWheel && x.closeBy == 0 {
			x.loop.wheel.remove(x)
			x.loop.wheel.add(x, x.slimTime(x.last+x.proxy.ticks(x.proxy.config.IdleTimeout)))
		}
	}
}

// slimTime is the tick at which to look whether the pair idles, if it has TLS buffers to give back;
// due otherwise.
func (x *pair) slimTime(due uint32) uint32 {
	if x.client.tls == nil && x.up.tls == nil {
		return due
	}
	if soon := x.loop.wheel.now + x.proxy.ticks(slimAfter); int32(soon-due) < 0 {
		return soon
	}
	return due
}
