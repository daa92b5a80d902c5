package e2e

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"

	"klink/internal/kafkatest"
)

// atOnce is how many tests run at the same time at least: they wait for brokers for a part of their
// time, and two at a time leave a quarter of two processors idle.
const atOnce = 3

// whole returns what a long test does in `make soak`, or the shorter of `make test`.
func whole[T any](soak, test T) T {
	if os.Getenv("KLINK_SOAK") == "1" {
		return soak
	}
	return test
}

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given && runtime.GOMAXPROCS(0) < atOnce {
		if err := flag.Set("test.parallel", strconv.Itoa(atOnce)); err != nil {
			panic(err)
		}
	}
	kafkatest.Main(m, removeBinary)
}
