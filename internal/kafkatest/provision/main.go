// Command provision fetches the jars of Apache Kafka that the tests run, unless they are already
// there, and prints where they are. `make test` calls it first, so that a missing Java or Maven
// gives one line and not a hundred failures.
package main

import (
	"fmt"
	"os"

	"klink/internal/kafkatest"
)

func main() {
	if err := kafkatest.CheckJava(); err != nil {
		fail(err)
	}
	for _, v := range []kafkatest.Version{kafkatest.V431, kafkatest.V391, kafkatest.V282, kafkatest.V241} {
		dir, err := kafkatest.Provision(v)
		if err != nil {
			fail(err)
		}
		fmt.Printf("Apache Kafka %s: %s\n", v, dir)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
