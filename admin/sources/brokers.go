package sources

import (
	"context"

	"klink/internal/kafkaclient"
	"klink/protocol"
)

// TryBrokers connects to each broker of the source at the address that it advertises. A mirror
// reads each partition from the broker that leads it, so a source of which only bootstrap.servers
// can be reached is of no use.
func (s *Source) TryBrokers(ctx context.Context) *protocol.Error {
	defer s.CloseAfter(ctx)()
	tried, err := kafkaclient.TryBrokers(ctx, s.Client)
	if err != nil {
		return s.Failed("list the brokers", err)
	}
	failed := kafkaclient.FailedBrokers(tried)
	if failed == nil {
		return nil
	}
	name, _ := Classify(failed.Failed[0].Err)
	return protocol.Errorf(errorCode(name), "%s: source %s of link %q: %s", name, s.Address, s.link, failed)
}
