package kafkatest

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// Require makes sure that real Kafka can run. If it cannot, the test fails, with one line that says
// what is missing, because a skipped proof proves nothing. KLINK_SKIP_KAFKA=1 skips the test
// instead, for work away from Java.
func Require(t testing.TB) {
	t.Helper()
	if os.Getenv("KLINK_SKIP_KAFKA") == "1" {
		t.Skip("real Kafka is skipped: KLINK_SKIP_KAFKA=1")
	}
	if err := javaOnce(); err != nil {
		t.Fatal(err)
	}
}

var javaOnce = sync.OnceValue(CheckJava)

var jarsOnce = map[Version]func() (string, error){
	V431: sync.OnceValues(func() (string, error) { return Provision(V431) }),
	V391: sync.OnceValues(func() (string, error) { return Provision(V391) }),
	V241: sync.OnceValues(func() (string, error) { return Provision(V241) }),
	V282: sync.OnceValues(func() (string, error) { return Provision(V282) }),
}

// jars calls Provision once per process.
func jars(v Version) (string, error) { return jarsOnce[v]() }

// prove notes that a real broker served, so that a check can tell that the tests really ran on
// brokers.
func prove(v Version, addr string) error {
	path := os.Getenv("KLINK_KAFKA_PROOF")
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("kafkatest: KLINK_KAFKA_PROOF: %w", err)
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "Apache Kafka %s ready at %s\n", v, addr)
	return err
}
