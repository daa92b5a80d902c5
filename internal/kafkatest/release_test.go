package kafkatest

import "testing"

// TestReleaseBefore4 runs the last line of releases before 4.0, which has KRaft but logs like the
// older ones.
func TestReleaseBefore4(t *testing.T) {
	t.Parallel()
	c := StartRelease(t, V391)
	cl := c.Client(t)
	CreateTopic(t, cl, "one", 1, 1, nil)
	Produce(t, cl, "one", 0, Records(10, 10)...)
	expectRecords(t, c.ReadAll(t, "one"), 10)
}
