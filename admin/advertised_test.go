package admin

import (
	"context"
	"net"
	"strconv"
	"testing"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/internal/kafkatest"
	"klink/protocol/linkapi"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestEachAdvertisedAddressIsTried: a link to a source of which one broker cannot be reached is
// refused with the broker's name, unless it may not be tried. Later changes are refused like that
// only as long as the link is ACTIVE.
func TestEachAdvertisedAddressIsTried(t *testing.T) {
	w := newWorld(t)
	source := kafkatest.Embedded(t, 1, kfake.ClusterID("half"))
	host, port, err := net.SplitHostPort(source.ListenAddrs()[0])
	require.NoError(t, err)
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	source.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		source.KeepControl()
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		resp.ClusterID = kmsg.StringPtr("half")
		for id, at := range []string{host, "not..a.name"} {
			b := kmsg.NewMetadataResponseBroker()
			b.NodeID, b.Host, b.Port = int32(id), at, int32(number)
			resp.Brokers = append(resp.Brokers, b)
		}
		return resp, nil, true
	})
	at := linkconfig.ConfigBootstrapServers + "=" + source.ListenAddrs()[0]
	r := w.link("l", at)
	require.Equal(t, kerr.BrokerNotAvailable.Code, r.ErrorCode)
	for _, part := range []string{string(model.ErrBootstrapConnection), "1 of 2 brokers", "broker 1 at not..a.name:" + port, "cannot be resolved", "advertised.listeners"} {
		require.Contains(t, text(r.ErrorMessage), part)
	}
	require.Empty(t, w.service.State().Links)

	skip := &linkapi.CreateLinksRequest{SkipConnect: true, Links: []linkapi.CreateLink{{Name: "l", Configs: w.configs(at)}}}
	require.Zero(t, w.service.HandleLink(context.Background(), skip).(*linkapi.CreateLinksResponse).Results[0].ErrorCode)
	alter := func(name, value string) linkapi.NameResult {
		req := &linkapi.AlterLinkConfigsRequest{Links: []linkapi.AlterLink{{Name: "l", Configs: []linkapi.AlterConfig{{Name: name, Op: linkapi.ConfigSet, Value: &value}}}}}
		return w.service.HandleLink(context.Background(), req).(*linkapi.AlterLinkConfigsResponse).Results[0]
	}
	refused := alter("client.id", "me")
	require.Equal(t, kerr.BrokerNotAvailable.Code, refused.ErrorCode)
	require.Contains(t, text(refused.ErrorMessage), "broker 1 at not..a.name:"+port)
	w.report(model.Event{Kind: model.EventLinkDown, Link: "l", Error: model.ErrBrokerUnreachable, Message: "broker 1"})
	require.Zero(t, alter("client.id", "me").ErrorCode)
	require.Zero(t, alter(linkconfig.ConfigBootstrapServers, "localhost:"+port).ErrorCode, "the one broker tells which cluster it is")
	require.Equal(t, "half", w.service.State().Links["l"].SourceClusterID)
}
