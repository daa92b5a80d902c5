package gate

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/protocol"
)

// versionsFor is how long klink relies on what a broker has told of its versions.
const versionsFor = time.Minute

// AskVersions asks a broker for its versions on a connection of klink's own: before the login there
// is none of the client's. router.BootstrapID stands for any broker.
type AskVersions func(ctx context.Context, broker int32) (*kmsg.ApiVersionsResponse, error)

// versions are what brokers have told of their versions. Any client may ask for them, at a broker
// too, and they say nothing about anybody's rights. But strangers ask klink, so they are kept.
type versions struct {
	ask AskVersions

	mu    sync.Mutex
	known map[int32]*brokerVersions
}

type brokerVersions struct {
	turn chan struct{} // held while the broker is asked; guards what follows
	got  *kmsg.ApiVersionsResponse
	at   time.Time
}

// of returns the versions of a broker. The response must not be changed.
func (v *versions) of(ctx context.Context, broker int32) (*kmsg.ApiVersionsResponse, error) {
	v.mu.Lock()
	if v.known == nil {
		v.known = map[int32]*brokerVersions{}
	}
	b := v.known[broker]
	if b == nil {
		b = &brokerVersions{turn: make(chan struct{}, 1)}
		v.known[broker] = b
	}
	v.mu.Unlock()
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if b.got != nil && time.Since(b.at) < versionsFor {
		return b.got, nil
	}
	got, err := v.ask(ctx, broker)
	if err == nil {
		err = kerr.ErrorForCode(got.ErrorCode)
	}
	if err != nil {
		return nil, fmt.Errorf("ask the broker for its versions: %w", err)
	}
	b.got, b.at = got, time.Now()
	return got, nil
}

// answer returns the response to ApiVersions, of any version, as the broker and klink together
// would answer it.
func (v *versions) answer(ctx context.Context, broker int32, h protocol.RequestHeader, links bool) ([]byte, error) {
	got, err := v.of(ctx, broker)
	if err != nil {
		return nil, err
	}
	if h.Body < 0 {
		// As a broker does (KIP-511): in version 0, with the versions that it knows.
		resp := kmsg.NewPtrApiVersionsResponse()
		resp.ErrorCode = kerr.UnsupportedVersion.Code
		for _, k := range got.ApiKeys {
			if k.ApiKey == int16(kmsg.ApiVersions) {
				resp.ApiKeys = append(resp.ApiKeys, k)
			}
		}
		return protocol.RewriteApiVersions(protocol.AppendResponse(nil, h, resp), h, links)
	}
	resp := *got
	resp.Version = h.Version
	h.Flexible = resp.IsFlexible()
	return protocol.RewriteApiVersions(protocol.AppendResponse(nil, h, &resp), h, links)
}
