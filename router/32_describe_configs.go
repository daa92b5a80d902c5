package router

import (
	"slices"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeConfigs: v0-4
//
// Behavior:
//   - The broker answers. klink adds mirror.link, mirror.source.topic and mirror.state to each
//     mirror, including stopped ones, if the client asked for them and the broker let it see the
//     topic's configs.
//   - They are shown as dynamic topic configs, so that kafka-topics --describe and kafka-configs
//     --describe list them.
//
// Version notes:
//   - v1: source instead of "is default", synonyms
//   - v3: type, documentation
func init() { registerControl(int16(kmsg.DescribeConfigs), handleDescribeConfigs) }

func handleDescribeConfigs(s *session, h protocol.RequestHeader, frame []byte) Decision {
	req := kmsg.NewPtrDescribeConfigsRequest()
	if err := decodeControl(h, frame, req); err != nil {
		return closing(err)
	}
	snapshot := s.snapshot()
	mirrors := make(map[string]describedMirror)
	for i := range req.Resources {
		r := &req.Resources[i]
		if r.ResourceType != kmsg.ConfigResourceTypeTopic {
			continue
		}
		if m := snapshot.Mirrors[r.ResourceName]; m != nil {
			mirrors[r.ResourceName] = describedMirror{m, r.ConfigNames}
		}
	}
	if len(mirrors) == 0 {
		return Decision{Action: Forward, Frame: frame}
	}
	h = ownHeader(h)
	add := func(frame []byte) Decision {
		r, err := decodeControlResponse(h, frame, req)
		if err != nil {
			return closing(err)
		}
		resp := r.(*kmsg.DescribeConfigsResponse)
		for i := range resp.Resources {
			r := &resp.Resources[i]
			m, ok := mirrors[r.ResourceName]
			if ok && r.ResourceType == kmsg.ConfigResourceTypeTopic && r.ErrorCode == 0 {
				r.Configs = append(r.Configs, m.entries(req, len(r.Configs) > 0)...)
			}
		}
		return answer(h, resp)
	}
	return Decision{Action: Forward, Frame: frame, Whole: add}
}

// describedMirror is a mirror, and the names of the configs asked for.
type describedMirror struct {
	*Mirror
	names []string
}

// entries returns the mirror.* configs that the client asked for. A null list of names means all.
// An empty list means all to newer brokers and none to older ones: others, which is true if the
// broker returned any config, shows which meaning this broker chose.
func (m describedMirror) entries(req *kmsg.DescribeConfigsRequest, others bool) []kmsg.DescribeConfigsResponseResourceConfig {
	all := m.names == nil || len(m.names) == 0 && others
	var entries []kmsg.DescribeConfigsResponseResourceConfig
	for _, c := range []struct {
		name, value, doc string
		readOnly         bool
	}{
		{configLink, m.Link, "The cluster link that this topic is mirrored through.", true},
		{configSourceTopic, m.SourceTopic, "The topic of the link's source cluster that this topic mirrors.", true},
		{configState, m.State, "The state of this mirror. Set it to PAUSED or ACTIVE to pause and resume, to STOPPED or PROMOTED to end mirroring.", false},
	} {
		if !all && !slices.Contains(m.names, c.name) {
			continue
		}
		e := kmsg.NewDescribeConfigsResponseResourceConfig()
		e.Name, e.Value, e.ReadOnly = c.name, kmsg.StringPtr(c.value), c.readOnly
		e.Source, e.ConfigType = kmsg.ConfigSourceDynamicTopicConfig, kmsg.ConfigTypeString
		if req.IncludeSynonyms {
			synonym := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			synonym.Name, synonym.Value, synonym.Source = c.name, kmsg.StringPtr(c.value), kmsg.ConfigSourceDynamicTopicConfig
			e.ConfigSynonyms = append(e.ConfigSynonyms, synonym)
		}
		if req.IncludeDocumentation {
			e.Documentation = kmsg.StringPtr(c.doc)
		}
		entries = append(entries, e)
	}
	return entries
}
