package e2e

import (
	"slices"
	"testing"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestMetadataCreatesNoMirror asks for Metadata of a mirror whose topic is gone, of a topic of
// klink's that does not exist, and of an ordinary new one, at brokers that create what is asked
// for: only the last one comes to be. Nor is anybody served as a follower, who would read what is
// not replicated.
func TestMetadataCreatesNoMirror(t *testing.T) {
	t.Parallel()
	source := kafkatest.Start(t)
	ctx := t.Context()
	if _, err := kadm.NewClient(source.Client(t)).CreateTopic(ctx, 1, 1, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	destination := kafkatest.Start(t, kafkatest.Config("auto.create.topics.enable", "true"))
	k := StartKlink(t, destination)
	createLink(t, k, "east", source)
	k.MustCLI(t, "topic", "create", "orders", "--link", "east")
	k.MustCLI(t, "mirror", "pause", "orders")
	adm := kadm.NewClient(destination.Client(t))
	if _, err := adm.DeleteTopic(ctx, "orders"); err != nil {
		t.Fatal(err)
	}
	exists := func() []string {
		list, err := adm.ListTopicsWithInternal(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return list.Names()
	}
	kafkatest.WaitFor(t, rawTimeout, "the topic to be deleted", func() (bool, string) { return !slices.Contains(exists(), "orders"), "" })

	for _, version := range []int16{1, 4, 12} {
		r := dialRaw(t, k.BrokerAddr(t, 0))
		req := kmsg.NewPtrMetadataRequest()
		req.AllowAutoTopicCreation = true
		created := "new-" + itoa(int32(version))
		for _, name := range []string{"orders", "_klink_other", created} {
			topic := kmsg.NewMetadataRequestTopic()
			topic.Topic = &name
			req.Topics = append(req.Topics, topic)
		}
		for range 2 {
			if resp := ask[*kmsg.MetadataResponse](r, req, version); len(resp.Topics) != 3 || len(resp.Brokers) != 1 {
				t.Errorf("v%d: %+v", version, resp)
			}
		}
		kafkatest.WaitFor(t, rawTimeout, "the ordinary topic", func() (bool, string) { return slices.Contains(exists(), created), "" })
	}
	if names := exists(); slices.Contains(names, "orders") || slices.Contains(names, "_klink_other") {
		t.Errorf("a client has created a topic of a mirror or of klink's: %v", names)
	}

	for _, version := range []int16{11, 17} {
		fetch := kmsg.NewPtrFetchRequest()
		fetch.ReplicaID, fetch.ReplicaState.ID, fetch.SessionEpoch = 1, 1, -1
		r := dialRaw(t, k.BrokerAddr(t, 0))
		r.send(fetch, version)
		if got := r.rest(); len(got) > 0 {
			t.Errorf("Fetch v%d as a follower is answered: %x", version, got)
		}
	}
}
