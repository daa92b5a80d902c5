package kafkaclient

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/sasl"
)

const (
	// maxIterations bounds the hash iterations that a broker may ask a SCRAM client for: about a
	// tenth of a second. Kafka allows at most 16,384 (KIP-554).
	maxIterations = 1 << 18
	// maxSCRAMMessage bounds a SCRAM message from a broker, in bytes.
	maxSCRAMMessage = 4 << 10
)

// boundedSCRAM is SCRAM with a bound on the work that a broker may ask for.
type boundedSCRAM struct{ sasl.Mechanism }

// Authenticate implements sasl.Mechanism.
func (m boundedSCRAM) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	s, first, err := m.Mechanism.Authenticate(ctx, host)
	if err != nil {
		return nil, nil, err
	}
	return boundedSession{Session: s, host: host}, first, nil
}

type boundedSession struct {
	sasl.Session
	host string
}

// Challenge implements sasl.Session.
func (s boundedSession) Challenge(message []byte) (bool, []byte, error) {
	if len(message) > maxSCRAMMessage {
		return false, nil, fmt.Errorf("broker %s sent a SCRAM message of %d bytes; at most %d are allowed", s.host, len(message), maxSCRAMMessage)
	}
	for part := range bytes.SplitSeq(message, []byte(",")) {
		digits, ok := bytes.CutPrefix(part, []byte("i="))
		if !ok {
			continue
		}
		if n, err := strconv.Atoi(string(digits)); err != nil || n > maxIterations {
			return false, nil, fmt.Errorf("broker %s asks for %.20q SCRAM iterations; at most %d are allowed: store the credentials with fewer", s.host, digits, maxIterations)
		}
	}
	return s.Session.Challenge(message)
}
