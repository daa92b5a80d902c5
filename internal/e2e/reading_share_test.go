package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// consoleShareConsumer reads in a share group (KIP-932).
const consoleShareConsumer = "org.apache.kafka.tools.consumer.ConsoleShareConsumer"

// shareGroups: an ordinary topic is read in a share group through klink; of a mirror the group is
// told that it cannot be.
func (r *reading) shareGroups(t *testing.T) {
	for _, group := range []string{"share-" + plain, "share-" + shifted} {
		r.shareFromTheStart(t, group)
	}
	out, err := kafkatest.JavaTool(t, "", consoleShareConsumer, "--bootstrap-server", r.k.Bootstrap(), "--topic", plain, "--group", "share-"+plain,
		"--max-messages", "20", "--timeout-ms", "60000", "--formatter-property", "print.offset=true", "--formatter-property", "print.partition=true")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, w := range r.want[plain] {
		known[fmt.Sprintf("Partition:%d\tOffset:%d\t%s\n", w.partition, w.offset, w.value)] = true
	}
	n := 0
	for line := range strings.Lines(out) {
		if known[line] {
			n++
		}
	}
	if n != 20 {
		t.Errorf("the share consumer has read %d of %s's records at their offsets, want 20:\n%s", n, plain, out)
	}

	tool := kafkatest.StartTool(t, nil, consoleShareConsumer, "--bootstrap-server", r.k.Bootstrap(), "--topic", shifted, "--group", "share-"+shifted)
	kafkatest.WaitFor(t, time.Minute, "the share consumer to say that it cannot read a mirror", func() (bool, string) {
		return strings.Contains(tool.Stderr(), "Share groups cannot read mirror topic '"+shifted+"': use a consumer group"), tool.Stdout() + tool.Stderr()
	})
	if out := tool.Stdout(); out != "" {
		t.Errorf("the share consumer of a mirror has read %s", out)
	}
	tool.Kill()
}

// shareFromTheStart makes a share group read committed records from the log start on.
func (r *reading) shareFromTheStart(t *testing.T, group string) {
	t.Helper()
	cl := kafkatest.NewClient(t, kgo.SeedBrokers(r.k.Bootstrap()))
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	rs := kmsg.NewIncrementalAlterConfigsRequestResource()
	rs.ResourceType, rs.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
	for k, v := range map[string]string{"share.auto.offset.reset": "earliest", "share.isolation.level": "read_committed"} {
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Value = k, &v
		rs.Configs = append(rs.Configs, c)
	}
	req.Resources = append(req.Resources, rs)
	resp, err := req.RequestWith(r.ctx, cl)
	if err != nil || resp.Resources[0].ErrorCode != 0 {
		t.Fatalf("%v %+v", err, resp)
	}
}
