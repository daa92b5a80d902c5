package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
)

// mirrorDescription is what `klink mirror describe -o json` prints.
type mirrorDescription struct {
	Link         string
	Topic        string
	SourceTopic  string `json:"source_topic"`
	State        string
	Error        string
	ErrorMessage string       `json:"error_message"`
	DirectAccess directAccess `json:"direct_access"`
	Notices      []string
	Partitions   []struct {
		Partition       int32
		SourceEndOffset int64 `json:"source_end_offset"`
		MirrorEndOffset int64 `json:"mirror_end_offset"`
		Lag             int64

		SourceLastStableOffset int64   `json:"source_last_stable_offset"`
		LastFetchTime          *string `json:"last_fetch_time"`
		Aligned                bool
		Shift                  int64
		ShiftBegan             int64  `json:"shift_began"`
		ShiftReason            string `json:"shift_reason"`
	}
	ConfigDrift []struct {
		Name        string
		SourceValue string `json:"source_value"`
	} `json:"config_drift"`
}

// directAccess answers whether clients can go straight to the brokers after promotion.
type directAccess struct {
	Possible bool
	Reason   string
}

// createLink makes a link to source through the command line. The link authenticates as the super
// user where there are users.
func createLink(t testing.TB, k *Klink, name string, source *kafkatest.Cluster, configs ...string) {
	t.Helper()
	props := source.ClientProperties(kafkatest.SuperUser, kafkatest.SuperUserPassword)
	props["bootstrap.servers"] = source.Bootstrap()
	args := []string{"link", "create", name, "--config-file", kafkatest.WriteProperties(t, props)}
	for _, c := range append(joinBelow(), configs...) {
		args = append(args, "--config", c)
	}
	k.MustCLI(t, args...)
}

// joinBelow is what KLINK_E2E_JOIN_BELOW has links set: `make unjoined` runs the tests of fidelity
// without joining. A test's own config comes later, and wins.
func joinBelow() (configs []string) {
	if v := os.Getenv("KLINK_E2E_JOIN_BELOW"); v != "" {
		configs = append(configs, "append.join.below="+v)
	}
	return configs
}

func describeMirror(t testing.TB, k *Klink, topic string) (mirrorDescription, error) {
	t.Helper()
	var d mirrorDescription
	stdout, stderr, code := k.CLI(t, "mirror", "describe", topic, "-o", "json")
	if code != 0 {
		return d, fmt.Errorf("exit code %d: %s", code, stderr)
	}
	return d, json.Unmarshal([]byte(stdout), &d)
}

// awaitMirror waits until the mirror is ACTIVE and has, in every partition, the end offset that the
// source has now.
func awaitMirror(t testing.TB, k *Klink, source *kafkatest.Cluster, topic string) {
	t.Helper()
	ends, err := kadm.NewClient(source.Client(t)).ListEndOffsets(context.Background(), topic)
	if err != nil {
		t.Fatal(err)
	}
	kafkatest.WaitForProgress(t, 2*time.Minute, "mirror "+topic+" to catch up", func() (bool, int64, string) {
		d, err := describeMirror(t, k, topic)
		if err != nil {
			return false, -1, err.Error()
		}
		progress, behind := int64(0), d.State != "ACTIVE" || len(d.Partitions) != len(ends[topic])
		for _, p := range d.Partitions {
			progress += p.MirrorEndOffset
			end, ok := ends.Lookup(topic, p.Partition)
			behind = behind || !ok || p.MirrorEndOffset != end.Offset || p.SourceEndOffset != end.Offset || p.Lag != 0
		}
		return !behind, progress, fmt.Sprintf("%+v, the source ends at %+v", d, ends[topic])
	})
}

// awaitMirrorState waits for a state and error.
func awaitMirrorState(t testing.TB, k *Klink, topic, state, errorName string) mirrorDescription {
	t.Helper()
	var d mirrorDescription
	kafkatest.WaitFor(t, time.Minute, "mirror "+topic+" to be "+state+" "+errorName, func() (bool, string) {
		var err error
		if d, err = describeMirror(t, k, topic); err != nil {
			return false, err.Error()
		}
		return d.State == state && d.Error == errorName, fmt.Sprintf("%+v", d)
	})
	return d
}
