package kafkaclient

import (
	"fmt"

	"klink/protocol"
	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The largest response bodies that are accepted, in bytes.
const (
	loginResponse   = 64 << 10
	fixedResponse   = 1 << 20   // of APIs whose response does not grow with the cluster
	requestResponse = 16 << 20  // of APIs whose response grows with the request
	clusterResponse = 64 << 20  // of APIs that list a cluster: metadata of a million partitions
	oneBatch        = 128 << 20 // what a Fetch may exceed the requested size by (KIP-74)
	// maxHeld bounds the bytes of unfinished responses of one cluster, Fetch excluded.
	maxHeld = 256 << 20
	// maxBrokers bounds the brokers that metadata may name: clients connect to each of them.
	maxBrokers = 4096
)

// responseLimits maps keys to limits; a missing key has requestResponse.
var responseLimits = map[kmsg.Key]int{
	kmsg.SASLHandshake: loginResponse, kmsg.SASLAuthenticate: loginResponse,
	kmsg.ApiVersions: fixedResponse, kmsg.Heartbeat: fixedResponse, kmsg.LeaveGroup: fixedResponse,
	kmsg.SyncGroup: fixedResponse, kmsg.InitProducerID: fixedResponse, kmsg.AddOffsetsToTxn: fixedResponse,
	kmsg.EndTxn: fixedResponse, kmsg.GetTelemetrySubscriptions: fixedResponse, kmsg.PushTelemetry: fixedResponse,
	kmsg.Metadata: clusterResponse, kmsg.DescribeConfigs: clusterResponse, kmsg.DescribeACLs: clusterResponse,
	kmsg.ListGroups: clusterResponse, kmsg.DescribeGroups: clusterResponse, kmsg.OffsetFetch: clusterResponse,
	kmsg.ListOffsets: clusterResponse, kmsg.DescribeLogDirs: clusterResponse, kmsg.ListTransactions: clusterResponse,
	kmsg.DescribeProducers: clusterResponse, kmsg.DescribeTopicPartitions: clusterResponse,
}

// awaited is a response that the client waits for.
type awaited struct {
	correlation  int32
	key, version int16
	limit        int // size of the body in bytes
	flexible     bool
	shape        protocol.Shape // with the header's tags; nil = klink's own API, with its own bounds
}

func (a *awaited) name() string {
	if _, ok := headed[a.key]; ok {
		return fmt.Sprintf("%s v%d", kmsg.NameForKey(a.key), a.version)
	}
	return fmt.Sprintf("%s v%d", linkapi.Name(a.key), a.version)
}

// memory returns a bound in bytes on the memory of the decoded response. Small elements take a few
// times as much memory as on the wire.
func (a *awaited) memory() int { return max(a.limit+16<<20, 128<<20) }

// headed are the shapes of responses that begin with a header with tags.
var headed = func() map[int16]protocol.Shape {
	all := map[int16]protocol.Shape{}
	for key := int16(0); key <= kmsg.MaxKey; key++ {
		if m, ok := protocol.MessageOf(key); ok {
			all[key] = append(protocol.Shape{protocol.Struct()}, m.Response...)
		}
	}
	return all
}()

// readRequest returns the response that a request will get; ok is false if it gets none. It refuses
// a request whose response klink has no shape for: nothing would bound that response.
func readRequest(frame []byte) (a awaited, ok bool, err error) {
	r := kbin.Reader{Src: frame}
	size := r.Int32()
	a.key, a.version, a.correlation = r.Int16(), r.Int16(), r.Int32()
	r.NullableString() // client id
	if !r.Ok() || int(size) != len(frame)-4 {
		return a, false, fmt.Errorf("%d bytes that are not one request", len(frame))
	}
	if api, ok := protocol.Supported(a.key); ok && a.key >= linkapi.MinKey {
		if a.version > api.Max {
			return a, false, fmt.Errorf("klink does not know v%d of %s", a.version, api.Name)
		}
		a.flexible, a.limit = true, clusterResponse
		return a, true, nil
	}
	m, known := protocol.MessageOf(a.key)
	if !known || a.version < 0 || a.version > m.Max {
		return a, false, fmt.Errorf("klink does not know the layout of the response to %s (key %d) v%d", kmsg.NameForKey(a.key), a.key, a.version)
	}
	a.flexible = a.version >= m.FlexibleFrom
	a.shape = m.Response
	if a.flexible {
		kmsg.SkipTags(&r) // the client's own
		if a.key != int16(kmsg.ApiVersions) {
			a.shape = headed[a.key]
		}
	}
	if a.limit = responseLimits[kmsg.Key(a.key)]; a.limit == 0 {
		a.limit = requestResponse
	}
	switch kmsg.Key(a.key) {
	case kmsg.SASLHandshake:
		if a.version == 0 {
			return a, false, fmt.Errorf("it does not support SaslAuthenticate (KIP-152, Kafka 1.0), which klink needs to log in")
		}
	case kmsg.Produce:
		if a.version >= 3 { // transactional id
			if a.flexible {
				r.CompactNullableString()
			} else {
				r.NullableString()
			}
		}
		if acks := r.Int16(); r.Ok() && acks == 0 {
			return a, false, nil
		}
	case kmsg.Fetch, kmsg.ShareFetch:
		a.limit = clusterResponse + oneBatch
		if asked := askedBytes(a, &r); asked >= 0 {
			a.limit = int(asked) + oneBatch
		}
	}
	return a, true, nil
}

// askedBytes returns the size that a Fetch asks for; -1 if it names none.
func askedBytes(a awaited, r *kbin.Reader) int32 {
	if a.key != int16(kmsg.Fetch) || a.version < 3 {
		return -1
	}
	if a.version <= 14 {
		r.Int32() // replica id
	}
	r.Int32() // max wait
	r.Int32() // min bytes
	asked := r.Int32()
	if !r.Ok() {
		return -1
	}
	return asked
}
