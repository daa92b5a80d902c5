package kafkatest

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestStart(t *testing.T) {
	begin := time.Now()
	c := Start(t)
	t.Logf("ready after %v", time.Since(begin))
	cl := c.Client(t, kgo.AllowAutoTopicCreation())
	if err := cl.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}
