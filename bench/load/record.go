package load

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"time"
)

// MinRecordSize is the size of a record without payload, in bytes.
const MinRecordSize = 40

// magic begins the value of every record.
const magic = "KLB1"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header stands before the payload in the value of a record, big-endian:
//
//	magic      4 bytes "KLB1"
//	checksum   uint32, CRC32C of all that follows, payload included
//	run        uint64, tells the records of this run from all others
//	producer   uint32
//	partition  uint32, that the record was sent to
//	sequence   uint64, counts the records of a producer in a partition, from 0 on
//	intended   int64, when the record was to be sent, Unix nanoseconds
type header struct {
	run       uint64
	producer  uint32
	partition uint32
	sequence  uint64
	intended  int64
}

// seal writes the header into value, whose payload is in place.
func (h header) seal(value []byte) {
	copy(value, magic)
	binary.BigEndian.PutUint64(value[8:], h.run)
	binary.BigEndian.PutUint32(value[16:], h.producer)
	binary.BigEndian.PutUint32(value[20:], h.partition)
	binary.BigEndian.PutUint64(value[24:], h.sequence)
	binary.BigEndian.PutUint64(value[32:], uint64(h.intended))
	binary.BigEndian.PutUint32(value[4:], crc32.Checksum(value[8:], castagnoli))
}

// parse reads the header of a value. ok: the value begins like one; intact: its checksum matches.
func parse(value []byte) (h header, ok, intact bool) {
	if len(value) < MinRecordSize || string(value[:4]) != magic {
		return h, false, false
	}
	h = header{
		run:       binary.BigEndian.Uint64(value[8:]),
		producer:  binary.BigEndian.Uint32(value[16:]),
		partition: binary.BigEndian.Uint32(value[20:]),
		sequence:  binary.BigEndian.Uint64(value[24:]),
		intended:  int64(binary.BigEndian.Uint64(value[32:])),
	}
	return h, true, binary.BigEndian.Uint32(value[4:]) == crc32.Checksum(value[8:], castagnoli)
}

// The kinds of payload.
const (
	PayloadRandom = "random" // cannot be compressed
	PayloadJSON   = "json"   // compresses as JSON of applications does
)

// Payloads are the kinds of payload.
func Payloads() []string { return []string{PayloadRandom, PayloadJSON} }

// payloads is a stock of payload bytes. Each record takes a piece of it, so that making a record
// costs only a copy.
type payloads struct {
	stock []byte
	size  int // of a payload
}

// stockSize is more bytes than any codec looks back within a batch of usual size.
const stockSize = 1 << 20

func newPayloads(kind string, size int, seed uint64) (*payloads, error) {
	rng := rand.New(rand.NewPCG(seed, seed))
	p := &payloads{size: size}
	want := stockSize + size
	switch kind {
	case PayloadRandom:
		p.stock = make([]byte, 0, want+8)
		for len(p.stock) < want {
			p.stock = binary.LittleEndian.AppendUint64(p.stock, rng.Uint64())
		}
	case PayloadJSON:
		for len(p.stock) < want {
			p.stock = append(append(p.stock, event(rng)...), '\n')
		}
	default:
		return nil, fmt.Errorf("unknown payload %q; known: %v", kind, Payloads())
	}
	p.stock = slices.Clip(p.stock[:want])
	return p, nil
}

// fill copies the n-th payload into to.
func (p *payloads) fill(to []byte, n uint64) {
	copy(to, p.stock[n*7919%stockSize:]) // a prime, so that neighbours are different pieces
}

// event is a line of JSON as applications write them: names repeat, values hardly do.
func event(rng *rand.Rand) []byte {
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	return fmt.Appendf(nil, `{"event":%q,"order_id":%d,"customer":"customer-%06d","amount_cents":%d,"currency":%q,"at":%q,"country":%q,"device":%q,"session":"%016x"}`,
		pick("order.created", "order.paid", "order.shipped", "cart.changed", "page.viewed"), rng.Uint64(), rng.IntN(1e6), rng.IntN(1e6), pick("EUR", "USD", "GBP"),
		time.Unix(1.7e9+rng.Int64N(1e7), rng.Int64N(1e9)).UTC().Format(time.RFC3339Nano), pick("de", "fr", "gb", "us", "se", "pl"), pick("ios", "android", "web"), rng.Uint64())
}
