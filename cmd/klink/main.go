// Command klink gives stock Kafka clusters cluster links and read-only, offset-faithful mirror
// topics. `klink serve` is the proxy with link administration and replicator; the other commands
// administer links, mirrors and topics through it over the Kafka protocol.
//
// Reading order: app.go (command tree, errors, exit codes), connect.go (which cluster), then one
// file per noun.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // so that a second signal ends the process at once
	}()
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	os.Exit(code)
}
