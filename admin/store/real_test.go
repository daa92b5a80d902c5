package store

import (
	"testing"

	"klink/internal/kafkatest"
)

// TestRealStoresNeverLoseAChange is TestStoresNeverLoseAChange on Apache Kafka, whose transaction
// coordinator writes markers after it has answered a commit.
func TestRealStoresNeverLoseAChange(t *testing.T) {
	c := kafkatest.Shared(t, "source")
	opts := clientOptions(t, c.Bootstrap())
	kafkatest.CreateTopic(t, c.Client(t), StateTopic, 1, 1, map[string]string{"cleanup.policy": "compact"})
	testStoresNeverLoseAChange(t, opts)
}
