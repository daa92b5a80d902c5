package wire

import (
	"encoding/binary"
	"math"
	"net"
)

// copyBelow is the size in bytes below which records are copied into the request: for so few bytes
// a copy is cheaper than one more part of a writev (BenchmarkProduceBuild).
const copyBelow = 1 << 10

// message is a request in memory: its own bytes, and between them records that it refers to. Its
// memory is used again for the next request.
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

// cut is a position in buf at which bytes from elsewhere are inserted.
type cut struct {
	at  int
	ref []byte
}

// atCorrelation is the position of the correlation id.
const atCorrelation = 8

// begin starts a new request, with header version 2 if it is flexible, else 1.
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

// length appends the length of an array or of bytes.
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

// null appends a null string.
func (m *message) null() {
	if m.flexible {
		m.buf = append(m.buf, 0)
	} else {
		m.int16(-1)
	}
}

// records appends a field of bytes. They are not copied unless they are few.
func (m *message) records(b []byte) {
	m.length(len(b))
	if len(b) < copyBelow {
		m.buf = append(m.buf, b...)
		return
	}
	m.cuts = append(m.cuts, cut{len(m.buf), b})
	m.referred += len(b)
}

// tags appends an empty list of tagged fields.
func (m *message) tags() {
	if m.flexible {
		m.buf = append(m.buf, 0)
	}
}

// Version returns the version that the request was begun with.
func (m *message) Version() int16 { return m.version }

// size returns how many bytes the request has.
func (m *message) size() int { return len(m.buf) + m.referred }

// seal completes the request and sets parts to the bytes to write. It returns false if the request
// is too large for its length field.
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

// done drops the references to the records, which belong to the caller again.
func (m *message) done() {
	clear(m.backing)
	clear(m.cuts)
	m.parts, m.backing, m.cuts = nil, m.backing[:0], m.cuts[:0]
}
