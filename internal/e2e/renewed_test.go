package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// renewal is a klink between two clusters whose authorities are replaced while links mirror and
// clients write and connect.
type renewal struct {
	source, destination *kafkatest.Cluster
	k                   *Klink
	loads               sync.WaitGroup
	done, connected     int // records that were written, clients that came and went
}

// step writes to the sources of the mirrors, and waits until all is there and clients have written
// and come.
func (r *renewal) step(t *testing.T, what string) {
	t.Helper()
	t.Log(what)
	for _, topic := range []string{"pem", "java"} {
		kafkatest.Produce(t, r.source.Client(t), topic, 0, kafkatest.Records(100, 100)...)
		awaitMirror(t, r.k, r.source, topic)
	}
}

// write writes through klink, on connections that stay, without a retry.
func (r *renewal) write(ctx context.Context, t *testing.T) {
	cl := kafkatest.NewClient(t, append(r.destination.ClientOpts(kafkatest.SuperUser, kafkatest.SuperUserPassword),
		kgo.SeedBrokers(r.k.Bootstrap()), kgo.DisableIdempotentWrite(), kgo.RequestRetries(0), kgo.RecordRetries(0))...)
	r.loads.Go(func() {
		for ctx.Err() == nil {
			record := &kgo.Record{Topic: "own", Value: fmt.Appendf(nil, "record %d", r.done)}
			if err := cl.ProduceSync(context.WithoutCancel(ctx), record).FirstErr(); err != nil {
				t.Errorf("a client that was connected: record %d: %v", r.done, err)
				return
			}
			r.done++
		}
	})
}

// connect has clients connect through klink, one after the other, each with the authorities that
// are trusted then.
func (r *renewal) connect(ctx context.Context, t *testing.T) {
	r.loads.Go(func() {
		for ctx.Err() == nil {
			cl, err := kgo.NewClient(append(r.destination.ClientOpts(kafkatest.SuperUser, kafkatest.SuperUserPassword),
				kgo.SeedBrokers(r.k.Bootstrap()), kgo.RequestRetries(0))...)
			if err == nil {
				asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
				_, err = kadm.NewClient(cl).ListEndOffsets(asking, "own")
				cancel()
				cl.Close()
			}
			if err != nil {
				t.Errorf("client %d: %v", r.connected, err)
				return
			}
			r.connected++
		}
	})
}

// resets breaks all connections of a cluster, so that klink has to make new ones.
func resets(c *kafkatest.Cluster) {
	for _, b := range c.Brokers() {
		b.Faults().Reset()
	}
}

// TestCertificatesAreRenewed replaces the authorities of both clusters, klink's own certificates,
// and those of the links, in the files that klink was started with, in the order in which people do
// it: trust both authorities, change the certificates, trust the new one only. Neither clients nor
// mirrors notice, and what connects afterwards is checked by the new authorities. One link has PEM
// files, the other has stores of Java's with passwords.
func TestCertificatesAreRenewed(t *testing.T) {
	t.Parallel()
	const password = "hush-store"
	r := &renewal{
		source:      kafkatest.Start(t, kafkatest.MutualTLS(), kafkatest.WithFaults()),
		destination: kafkatest.Start(t, kafkatest.SASL(), kafkatest.WithFaults()),
	}
	for _, topic := range []string{"pem", "java"} {
		kafkatest.CreateTopic(t, r.source.Client(t), topic, 1, 1, nil)
	}
	stores := r.source.JavaStores(t, "PKCS12", kafkatest.SuperUser, password)
	stores["bootstrap.servers"] = r.source.Bootstrap()
	certFile, keyFile := r.destination.ServerCertificate()
	r.k = StartKlink(t, r.destination, "--tls-cert-file", certFile, "--tls-key-file", keyFile, "--allow-plaintext-secrets",
		"--link-file-directories", filepath.Dir(r.source.CAFile())+","+filepath.Dir(stores["ssl.keystore.location"]))
	r.k.commandConfig = r.destination.PropertiesFile(t, kafkatest.SuperUser, kafkatest.SuperUserPassword)
	createLink(t, r.k, "pem", r.source)
	wrong := maps.Clone(stores)
	wrong["ssl.keystore.password"] = "hush-wrong"
	_, stderr, code := r.k.CLI(t, "link", "create", "java", "--config-file", kafkatest.WriteProperties(t, wrong))
	if code == 0 || !strings.Contains(stderr, "ssl.keystore.location: the password is wrong") || strings.Contains(stderr, "hush") {
		t.Errorf("a wrong password: exit code %d: %s", code, stderr)
	}
	r.k.MustCLI(t, "link", "create", "java", "--config-file", kafkatest.WriteProperties(t, stores))
	if shown := r.k.MustCLI(t, "link", "describe", "java"); strings.Contains(shown, "hush") || !strings.Contains(shown, "[hidden]") {
		t.Errorf("what is shown of a link: %s", shown)
	}
	for _, topic := range []string{"pem", "java"} {
		r.k.MustCLI(t, "topic", "create", topic, "--link", topic)
	}
	r.k.MustCLI(t, "topic", "create", "own")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r.write(ctx, t)
	r.connect(ctx, t)

	r.step(t, "the first certificates")
	both := func(do func(c *kafkatest.Cluster)) { do(r.source); do(r.destination) }
	both(func(c *kafkatest.Cluster) { c.TrustNewAuthority(t) })
	r.step(t, "both authorities are trusted")
	both(func(c *kafkatest.Cluster) { c.RenewCertificates(t) })
	for key, value := range r.source.JavaStores(t, "PKCS12", kafkatest.SuperUser, password) {
		if was := stores[key]; strings.HasPrefix(value, "/") && was != value && filepath.Base(was) == filepath.Base(value) {
			if err := os.Rename(value, was); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.step(t, "the certificates are new")
	both(func(c *kafkatest.Cluster) { c.DropOldAuthority(t) })
	r.step(t, "the old authorities are not trusted any more")
	resets(r.source)
	r.step(t, "the links have connected anew")
	stop()
	r.loads.Wait()
	if r.done == 0 || r.connected == 0 {
		t.Errorf("%d records were written, %d clients connected", r.done, r.connected)
	}
	kafkatest.WaitFor(t, time.Minute, "what was written", func() (bool, string) {
		ends, err := kadm.NewClient(r.destination.Client(t)).ListEndOffsets(t.Context(), "own")
		end, _ := ends.Lookup("own", 0)
		return err == nil && end.Offset == int64(r.done), fmt.Sprintf("%d of %d, %v", end.Offset, r.done, err)
	})
	resets(r.destination)
	r.step(t, "klink has connected to its destination anew")
	if strings.Contains(r.k.Log(t), "hush") {
		t.Error("a password is in the log")
	}
}
