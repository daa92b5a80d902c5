package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"klink/internal/kafkatest"
	"klink/proxy"
	"klink/router"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// thin is a cluster of another make: a real broker behind klink's own proxy, which takes APIs of it
// away, or answers them in the broker's place.
type thin struct {
	*kafkatest.Cluster
	addr string // through the proxy; clients that bootstrap there stay there

	mu sync.Mutex
	// The APIs that are not offered, and the answers that the broker does not give.
	taken  map[kmsg.Key]bool
	answer map[kmsg.Key]func(kmsg.Request) kmsg.Response // a nil response = the broker answers
	// epoch grows with every change: connections from before it are closed, as clients ask for the
	// versions only once in a connection.
	epoch int
}

func startThin(t *testing.T, opts ...kafkatest.Option) *thin {
	t.Helper()
	c := &thin{addr: fmt.Sprintf("127.0.0.1:%d", kafkatest.FreePorts(t, 1))}
	c.Cluster = kafkatest.Start(t, append(opts, kafkatest.Listener("THIN", "PLAINTEXT", c.addr))...)
	p, err := proxy.New(proxy.Config{Listeners: []proxy.Listener{{Listen: c.addr}}, Sessions: c, MaxInFlight: 1, Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Shutdown(t.Context()) })
	p.SetBootstrap([]string{c.Brokers()[0].ListenerAddr("THIN")})
	return c
}

// lacks makes exactly these APIs unavailable; the broker answers all others itself.
func (c *thin) lacks(keys ...kmsg.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken, c.answer = map[kmsg.Key]bool{}, nil
	for _, k := range keys {
		c.taken[k] = true
	}
	c.epoch++
}

// answers has an API answered in the broker's place, beside what was set before.
func (c *thin) answers(key kmsg.Key, with func(kmsg.Request) kmsg.Response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = maps.Clone(c.answer)
	if c.answer == nil {
		c.answer = map[kmsg.Key]func(kmsg.Request) kmsg.Response{}
	}
	c.answer[key] = with
	c.epoch++
}

func (c *thin) now() (epoch int, taken map[kmsg.Key]bool, answer map[kmsg.Key]func(kmsg.Request) kmsg.Response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch, c.taken, c.answer
}

// NewSession implements router.Sessions.
func (c *thin) NewSession(router.Client) router.Session {
	epoch, taken, answer := c.now()
	return &thinSession{c, epoch, taken, answer}
}

type thinSession struct {
	of     *thin
	epoch  int
	taken  map[kmsg.Key]bool
	answer map[kmsg.Key]func(kmsg.Request) kmsg.Response
}

var errTaken = errors.New("this broker does not have that API")

// Request implements router.Session.
func (s *thinSession) Request(frame []byte) router.Decision {
	key, version := kmsg.Key(binary.BigEndian.Uint16(frame[4:])), int16(binary.BigEndian.Uint16(frame[6:]))
	if epoch, _, _ := s.of.now(); epoch != s.epoch || s.taken[key] {
		return router.Decision{Action: router.Close, Err: errTaken}
	}
	if key == kmsg.ApiVersions {
		return router.Decision{Action: router.Forward, Frame: frame, Whole: func(resp []byte) router.Decision {
			return router.Decision{Action: router.Answer, Frame: s.without(resp, version)}
		}}
	}
	if with := s.answer[key]; with != nil {
		if req := readThinRequest(key, version, frame); req != nil {
			if resp := with(req); resp != nil {
				return router.Decision{Action: router.Answer, Frame: thinResponse(frame, resp, version)}
			}
		}
	}
	return router.Decision{Action: router.Forward, Frame: frame}
}

// without cuts the APIs that were taken away out of a response to ApiVersions.
func (s *thinSession) without(frame []byte, version int16) []byte {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.Version = version
	if err := resp.ReadFrom(frame[8:]); err != nil || resp.ErrorCode != 0 {
		return frame // the broker knows no such version, and says so
	}
	resp.ApiKeys = slices.DeleteFunc(resp.ApiKeys, func(k kmsg.ApiVersionsResponseApiKey) bool { return s.taken[kmsg.Key(k.ApiKey)] })
	return sized(resp.AppendTo(slices.Clone(frame[:8])))
}

// readThinRequest reads a request behind its header: client id, and tags where it is flexible.
func readThinRequest(key kmsg.Key, version int16, frame []byte) kmsg.Request {
	req := kmsg.RequestForKey(int16(key))
	req.SetVersion(version)
	at := 14
	if n := int16(binary.BigEndian.Uint16(frame[12:])); n > 0 {
		at += int(n)
	}
	if req.IsFlexible() {
		at++ // no tag
	}
	if req.ReadFrom(frame[at:]) != nil {
		return nil
	}
	return req
}

func thinResponse(frame []byte, resp kmsg.Response, version int16) []byte {
	resp.SetVersion(version)
	out := append(make([]byte, 4), frame[8:12]...)
	if resp.IsFlexible() {
		out = append(out, 0)
	}
	return sized(resp.AppendTo(out))
}

func sized(frame []byte) []byte {
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	return frame
}

// Proven implements router.Session.
func (*thinSession) Proven() bool { return true }

// Prove implements router.Session.
func (*thinSession) Prove() router.Decision { return router.Decision{Action: router.Drop} }

// Closed implements router.Session.
func (*thinSession) Closed() {}

// startThinKlink is StartKlink before a thin cluster.
func startThinKlink(t *testing.T, c *thin, flags ...string) *Klink {
	t.Helper()
	return StartKlink(t, c.Cluster, append([]string{"--destination", c.addr}, flags...)...)
}

// taskError waits until a task of a link has an error, and returns it.
func taskError(t *testing.T, k *Klink, link, task string) linkTaskShown {
	t.Helper()
	var found linkTaskShown
	kafkatest.WaitFor(t, time.Minute, task+" in error", func() (bool, string) {
		var tasks []linkTaskShown
		text := k.MustCLI(t, "link", "task", "list", link, "-o", "json")
		fromJSON(t, text, &tasks)
		for _, one := range tasks {
			if one.Name == task {
				found = one
			}
		}
		return found.State == "IN_ERROR", text
	})
	return found
}

// linkTaskShown is a task as `klink link task list -o json` shows it.
type linkTaskShown struct {
	Name, State string
	Errors      []struct {
		Error        string
		ErrorMessage string `json:"error_message"`
	}
}
