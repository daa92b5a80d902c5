package wire

import (
	"encoding/binary"
	"math"
	"net"
)

// copyBelow is the size in bytes below which records are copied into the request: for so few bytes
// a copy is cheaper than one more part of a writev (BenchmarkProduceBuild).
const copyBelow = 1 << 10

// message is a request in memory: the bytes that are written for it, and between them records by
// reference. Its memory is used again for the next one.
//
//	size int32 | key int16 | version int16 | correlation id int32 | client id | ...
type message struct {
	buf      []byte
	cuts     []cut
	referred int // bytes in cuts
	flexible bool
	version  int16
	parts    net.Buffers // of the request as it is written
	backing  [][]byte    // parts begins here
}

// cut is a place in buf at which bytes go that are not in it.
type cut struct {
	at  int
	ref []byte
}

// atCorrelation is where the correlation id stands.
const atCorrelation = 8

// begin starts a request over; header version 2 if it is flexible, else 1.
func (m *message) begin(key, version int16, flexible bool, clientID string) {
	m.buf = append(m.buf[:0], 0, 0, 0, 0)
	clear(m.cuts)
	m.cuts, m.referred = m.cuts[:0], 0
	m.flexible, m.version = flexible, version
	m.int16(key)
	m.int16(version)
	m.int32(0)
	m.int16(int16(len(clientID))) // not compact in any version
	m.buf = append(m.buf, clientID...)
	m.tags()
}

func (m *message) int8(v int8)   { m.buf = append(m.buf, byte(v)) }
func (m *message) int16(v int16) { m.buf = binary.BigEndian.AppendUint16(m.buf, uint16(v)) }
func (m *message) int32(v int32) { m.buf = binary.BigEndian.AppendUint32(m.buf, uint32(v)) }
func (m *message) int64(v int64) { m.buf = binary.BigEndian.AppendUint64(m.buf, uint64(v)) }

// length is that of an array or of bytes.
func (m *message) length(n int) {
	if m.flexible {
		m.buf = binary.AppendUvarint(m.buf, uint64(n)+1)
	} else {
		m.int32(int32(n))
	}
}

func (m *message) str(s string) {
	if m.flexible {
		m.buf = binary.AppendUvarint(m.buf, uint64(len(s))+1)
	} else {
		m.int16(int16(len(s)))
	}
	m.buf = append(m.buf, s...)
}

// null is a null string.
func (m *message) null() {
	if m.flexible {
		m.buf = append(m.buf, 0)
	} else {
		m.int16(-1)
	}
}

// records are a field of bytes that are written from where they are, unless they are few.
func (m *message) records(b []byte) {
	m.length(len(b))
	if len(b) < copyBelow {
		m.buf = append(m.buf, b...)
		return
	}
	m.cuts = append(m.cuts, cut{len(m.buf), b})
	m.referred += len(b)
}

// tags are no tagged fields.
func (m *message) tags() {
	if m.flexible {
		m.buf = append(m.buf, 0)
	}
}

// Version is the version that the request was begun with.
func (m *message) Version() int16 { return m.version }

// size is how many bytes are written.
func (m *message) size() int { return len(m.buf) + m.referred }

// seal completes the request, and gives what is to be written; false if it is too large for its
// length field.
func (m *message) seal(correlation int32) bool {
	size := m.size() - 4
	if size > math.MaxInt32 {
		return false
	}
	binary.BigEndian.PutUint32(m.buf, uint32(size))
	binary.BigEndian.PutUint32(m.buf[atCorrelation:], uint32(correlation))
	m.backing = m.backing[:0]
	from := 0
	for _, c := range m.cuts {
		m.backing = append(m.backing, m.buf[from:c.at], c.ref)
		from = c.at
	}
	if from < len(m.buf) {
		m.backing = append(m.backing, m.buf[from:])
	}
	m.parts = m.backing
	return true
}

// done forgets the records: they are the caller's again.
func (m *message) done() {
	clear(m.backing)
	clear(m.cuts)
	m.parts, m.backing, m.cuts = nil, m.backing[:0], m.cuts[:0]
}
