package admin

import (
	"context"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"klink/admin/model"
	"klink/protocol/linkapi"

	"github.com/stretchr/testify/require"
)

// TestMirrorOfAnySource: a mirror is compacted if its source is. It gets the source's timestamp
// type when it is stopped, and not before: the destination would overwrite the timestamps.
func TestMirrorOfAnySource(t *testing.T) {
	w := newWorld(t)
	w.replicator()
	require.Zero(t, w.link("l").ErrorCode)
	for _, c := range []struct{ topic, policy, kind string }{
		{"plain", "delete", "CreateTime"},
		{"compacted", "compact", "CreateTime"},
		{"both", "compact,delete", "CreateTime"},
		{"stamped", "delete", "LogAppendTime"},
		{"stamped-and-compacted", "compact", "LogAppendTime"},
	} {
		t.Run(c.topic, func(t *testing.T) {
			w.sourceTopic(c.topic, 1, map[string]string{"cleanup.policy": c.policy, "message.timestamp.type": c.kind})
			r := w.mirror(c.topic, "l")
			require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
			configs := w.configsOf(c.topic)
			require.Equal(t, c.policy, configs["cleanup.policy"])
			require.Equal(t, "CreateTime", configs["message.timestamp.type"])
			awaitState(t, w.service, "started", func(s *model.State) bool { return s.Mirrors[c.topic].State == model.MirrorActive })
			m := w.service.State().Mirrors[c.topic]
			require.Equal(t, c.kind == "LogAppendTime", m.LogAppendTime)
			require.Equal(t, m.LogAppendTime, strings.Contains(w.describe(w.service, c.topic).DirectAccessReason, "LogAppendTime"))

			require.Zero(t, w.alter(c.topic, linkapi.MirrorFailover).ErrorCode)
			require.NoError(t, w.service.restoreConfigs(context.Background(), c.topic))
			configs = w.configsOf(c.topic)
			require.Equal(t, c.policy, configs["cleanup.policy"])
			require.Equal(t, c.kind, configs["message.timestamp.type"])
		})
	}
}

// TestFinishingTakesAsLongAsTheRequestMay: finishing has as much time as the client says it waits,
// so that the client sees no time-out before. A client that goes away, or sets no time-out, stops
// nothing.
func TestFinishingTakesAsLongAsTheRequestMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			ms   int32
			want time.Duration
		}{{0, 30 * time.Second}, {1000, 30 * time.Second}, {300_000, 5 * time.Minute}, {math.MaxInt32, 10 * time.Minute}} {
			request, gone := withTimeout(t.Context(), c.ms)
			ctx, cancel := finishing(request)
			gone()
			deadline, _ := ctx.Deadline()
			if got := time.Until(deadline); got != c.want || ctx.Err() != nil {
				t.Errorf("a request of %d ms: %v, want %v; %v", c.ms, got, c.want, ctx.Err())
			}
			cancel()
		}
	})
}
