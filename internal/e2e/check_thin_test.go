package e2e

import (
	"encoding/json"
	"testing"
	"time"

	"klink/admin/needs"
	"klink/internal/kafkaclient"
	"klink/internal/kafkatest"
	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func fromJSON(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
}

// apiKey returns the key of the API that a need is named after.
func apiKey(t *testing.T, name string) kmsg.Key {
	t.Helper()
	for key := range kmsg.MaxKey {
		if kmsg.Key(key).Name() == name {
			return kmsg.Key(key)
		}
	}
	t.Fatalf("no API is called %s", name)
	return 0
}

// TestCheckNamesWhatIsTakenAway takes each API that klink needs away from a broker, one by one. The
// check says of that API that it is missing, and of no other; what only that API could tell becomes
// unknown, and nothing is said to be there that is not.
func TestCheckNamesWhatIsTakenAway(t *testing.T) {
	t.Parallel()
	c := startThin(t)
	cl := c.Client(t)
	kafkatest.CreateTopic(t, cl, "orders", 1, 1, nil)
	kafkatest.CreateTopic(t, cl, "_klink_state", 1, 1, map[string]string{"cleanup.policy": "compact"})
	for _, side := range []needs.Side{needs.Destination, needs.Source} {
		for _, n := range needs.Table(side) {
			if n.Kind != needs.KindAPI {
				continue
			}
			t.Run(string(side)+"/"+n.Name, func(t *testing.T) {
				c.lacks(apiKey(t, n.Name))
				found := checkDirectly(t, c.addr, side)
				for _, got := range found {
					noAuthorizer := got.Name == "DescribeACLs" || got.Name == "CreateACLs" || got.Name == "DeleteACLs"
					switch {
					case got.Kind != needs.KindAPI:
						if got.State == linkapi.NeedDenied || got.State == linkapi.NeedMissing {
							t.Errorf("%s is %s: %s", got.Name, got.State, got.Detail)
						}
					case got.Name == n.Name:
						if got.State != linkapi.NeedMissing || got.Consequence != n.Lost || got.Required != n.Required {
							t.Errorf("%+v", got)
						}
					case got.State == linkapi.NeedUnknown && (n.Name == "Metadata" || n.Name == "FindCoordinator"):
						// Without it klink finds no broker to ask.
					case got.State != linkapi.NeedOK && !noAuthorizer:
						t.Errorf("%s is %s, too: %s", got.Name, got.State, got.Detail)
					}
				}
			})
		}
	}
}

func checkDirectly(t *testing.T, bootstrap string, side needs.Side) []linkapi.ClusterNeed {
	t.Helper()
	opts, err := kafkaclient.Properties{"bootstrap.servers": bootstrap}.Options()
	if err != nil {
		t.Fatal(err)
	}
	cl := kafkatest.NewClient(t, append(opts, kgo.RequestRetries(2), kgo.RetryTimeout(5*time.Second))...)
	_, found, err := needs.Check(t.Context(), needs.Options{Side: side, Client: cl, Topics: []string{"orders"}})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
