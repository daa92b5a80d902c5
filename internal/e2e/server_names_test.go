package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
)

// namedCertificate writes a certificate for names that is its own authority, and its key.
func namedCertificate(t *testing.T, names ...string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// TestBrokersByServerName: all brokers are at one port, by the names of the TLS handshake. Go and
// Java clients find each of them, also after a broker and klink have restarted. At a second
// listener a load balancer says who the client is.
func TestBrokersByServerName(t *testing.T) {
	t.Parallel()
	const brokers, topic = 3, "named"
	destination := kafkatest.Start(t, kafkatest.Brokers(brokers))
	cert, key := namedCertificate(t, "klink.example", "*.klink.example")
	port := kafkatest.FreePorts(t, 2)
	k := StartKlink(t, destination,
		"--listen", fmt.Sprintf("direct=127.0.0.1:%d,balanced=127.0.0.1:%d", port, port+1), "--proxy-protocol-from", "balanced=127.0.0.1",
		"--advertise", "klink.example", "--sni-broker", "broker-{id}.klink.example",
		"--tls-cert-file", cert, "--tls-key-file", key)
	kafkatest.CreateTopic(t, destination.Client(t), topic, brokers, brokers, nil)
	at := func(name string) string { return fmt.Sprintf("%s:%d", name, port) }
	config, bootstrap := trusting(t, cert), at("klink.example")
	var seen dials
	dialer := seen.dialer(config)
	want := []string{bootstrap}
	hosts := "127.0.0.1 klink.example\n"
	for _, b := range destination.Brokers() {
		name := fmt.Sprintf("broker-%d.klink.example", b.ID())
		want, hosts = append(want, at(name)), hosts+"127.0.0.1 "+name+"\n"
	}
	slices.Sort(want)
	worksThrough(t, topic, "at first", bootstrap, brokers, dialer)
	long := kafkatest.NewClient(t, kgo.SeedBrokers(bootstrap), dialer, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	all := func(value string) {
		for p := range int32(brokers) {
			kafkatest.Produce(t, long, topic, p, &kgo.Record{Value: []byte(value)})
		}
	}
	all("at first")
	destination.Brokers()[1].Restart(t)
	long.ForceMetadataRefresh()
	all("after a broker restarted")
	k.Restart()
	all("after klink restarted")
	worksThrough(t, topic, "later", bootstrap, brokers, dialer)
	if got := seen.all(); !slices.Equal(got, want) {
		t.Errorf("clients have connected to %v, want %v", got, want)
	}

	// Java clients, which check names, too.
	hostsFile := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hostsFile, []byte(hosts), 0o600); err != nil {
		t.Fatal(err)
	}
	properties := kafkatest.WriteProperties(t, map[string]string{
		"security.protocol": "SSL", "ssl.truststore.type": "PEM", "ssl.truststore.location": cert,
	})
	java := func(stdin, class string, args ...string) string {
		t.Helper()
		tool := kafkatest.StartToolOn(t, []string{"-Djdk.net.hosts.file=" + hostsFile}, strings.NewReader(stdin), class,
			append([]string{"--bootstrap-server", bootstrap, "--command-config", properties}, args...)...)
		select {
		case <-tool.Done():
		case <-t.Context().Done():
			tool.Kill()
		}
		if err := tool.Err(); err != nil {
			t.Fatalf("%s: %v\n%s%s", class, err, tool.Stdout(), tool.Stderr())
		}
		return tool.Stdout()
	}
	versions := java("", kafkatest.BrokerAPIVersions)
	for _, name := range want[:brokers] {
		if !strings.Contains(versions, name) {
			t.Errorf("a Java client has not asked %s:\n%s", name, versions)
		}
	}
	java("one\ntwo\nthree\n", kafkatest.ConsoleProducer, "--topic", topic)
	out := java("", kafkatest.ConsoleConsumer, "--topic", topic, "--from-beginning", "--timeout-ms", "15000", "--group", "java")
	for _, value := range []string{"one", "two", "three", "after klink restarted"} {
		if !strings.Contains(out, value) {
			t.Errorf("a Java client has not read %q:\n%s", value, out)
		}
	}

	// The header of the PROXY protocol, for a TCP client at 192.0.2.7.
	header := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + "\xc0\x00\x02\x07" + "\x7f\x00\x00\x01" + "\x10\x00" + "\x10\x00"
	balanced := dials{header: header}
	worksThrough(t, topic, "balanced", fmt.Sprintf("klink.example:%d", port+1), brokers, balanced.dialer(config))
	raw, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := io.WriteString(raw, header+"no TLS, and long enough to see that"); err != nil {
		t.Fatal(err)
	}
	unheralded := trusting(t, cert)
	unheralded.ServerName = "klink.example"
	if conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port+1), unheralded); err == nil {
		conn.Close()
		t.Error("a load balancer may leave out the header")
	}
	kafkatest.WaitFor(t, readyTimeout, "both to be logged", func() (bool, string) {
		log := k.Log(t)
		return strings.Contains(log, "reason=tls listener=balanced client=192.0.2.7:4096") && strings.Contains(log, "reason=proxy_header listener=balanced client=127.0.0.1"), log
	})

	// A name that leads nowhere: refused with a reason, and counted.
	stranger := config.Clone()
	stranger.ServerName = "broker.klink.example"
	if conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), stranger); err == nil {
		conn.Close()
		t.Error("a name without meaning leads somewhere")
	}
	kafkatest.WaitFor(t, readyTimeout, "the close to be logged and counted", func() (bool, string) {
		log := k.Log(t)
		return strings.Contains(log, `the client asks for the server name \"broker.klink.example\"; want klink.example or broker-{id}.klink.example`) &&
			strings.Contains(k.Metrics(t), `klink_proxy_connections_closed_total{reason="server_name"} 1`), log
	})
}
