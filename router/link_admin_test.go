package router

import (
	"strings"
	"testing"

	"klink/protocol"
	"klink/protocol/linkapi"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestLinkAdmin sends every request with which a client can act on links and mirrors. With
// --link-admin read klink carries out only requests that read, with off none, and the answer names
// the setting. A client without permission from the broker does not learn the setting.
func TestLinkAdmin(t *testing.T) {
	type act struct {
		req   kmsg.Request
		reads bool
	}
	var acts []act
	for _, api := range linkapi.APIs() {
		for _, req := range mentioning(api.Key, 0) {
			acts = append(acts, act{req, !api.Alter})
		}
	}
	require.Greater(t, len(acts), 11)
	create := kmsg.NewPtrCreateTopicsRequest()
	create.Version = 5
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "new", -1, -1
	link := kmsg.NewCreateTopicsRequestTopicConfig()
	link.Name, link.Value = "mirror.link", kmsg.StringPtr("east")
	topic.Configs = append(topic.Configs, link)
	create.Topics = append(create.Topics, topic)
	acts = append(acts, act{req: create})
	for _, config := range [][2]string{{"mirror.link", "east"}, {"mirror.state", "STOPPED"}} {
		alter := kmsg.NewPtrIncrementalAlterConfigsRequest()
		r := kmsg.NewIncrementalAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, "new"
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Value = config[0], kmsg.StringPtr(config[1])
		r.Configs = append(r.Configs, c)
		alter.Resources = append(alter.Resources, r)
		acts = append(acts, act{req: alter})
	}
	for _, mode := range []LinkAdmin{"", LinkAdminOn, LinkAdminRead, LinkAdminOff} {
		for _, a := range acts {
			w := newControlWorld(t)
			w.linkAdmin = mode
			trace, _ := w.send(a.req)
			name := string(mode) + ": " + trace
			allowed := mode == "" || mode == LinkAdminOn || mode == LinkAdminRead && a.reads
			require.Equal(t, allowed, strings.Contains(trace, "control: "), name)
			require.Equal(t, !allowed, strings.Contains(trace, "ErrorCode:31") && strings.Contains(trace, "--link-admin "+string(mode)), name)

			w.operations = 0
			trace, _ = w.send(a.req)
			require.NotContains(t, trace, "control: ")
			require.NotContains(t, trace, "--link-admin", "told to a client that may do nothing")
		}
	}
}

// TestLinkAdminOffHidesTheAPI: klink does not offer APIs that are switched off.
func TestLinkAdminOffHidesTheAPI(t *testing.T) {
	for _, mode := range []LinkAdmin{LinkAdminOn, LinkAdminRead, LinkAdminOff} {
		w := newControlWorld(t)
		w.linkAdmin = mode
		p := w.proxy()
		req := kmsg.NewPtrApiVersionsRequest()
		p.broker = func([]byte) []byte {
			resp := req.ResponseKind().(*kmsg.ApiVersionsResponse)
			return protocol.AppendResponse(nil, protocol.RequestHeader{Key: 18}, resp)
		}
		out := p.exchange(protocol.AppendRequest(nil, protocol.RequestHeader{}, req))
		require.NoError(t, out.closed)
		resp := req.ResponseKind().(*kmsg.ApiVersionsResponse)
		require.NoError(t, resp.ReadFrom(out.answer[8:]))
		offered := 0
		for _, k := range resp.ApiKeys {
			if k.ApiKey >= linkapi.MinKey {
				offered++
			}
		}
		require.Equal(t, mode != LinkAdminOff, offered > 0, mode)
	}
}
