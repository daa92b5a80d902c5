package proxy

import (
	"fmt"
	"os"
	"path/filepath"
)

// haproxyConfig is what an HAProxy expert would write for a Kafka broker: TCP mode, as many threads
// as cores (the default), long time-outs, and HAProxy's well-chosen defaults for the rest. With TLS
// it decrypts and encrypts again; the relay is the subject that passes TLS on unread.
const haproxyConfig = `global
  maxconn %d
defaults
  mode tcp
  timeout connect 10s
  timeout client 10m
  timeout server 10m
listen kafka
  bind %s%s
  server broker %s%s
`

func writeHAProxyConfig(path string, s *subject, cert, key string) error {
	bind, server := "", ""
	if s.tls {
		// HAProxy wants certificate and key in one file.
		var both []byte
		for _, file := range []string{cert, key} {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			both = append(both, text...)
		}
		pem := filepath.Join(s.world.dir, "haproxy.pem")
		if err := os.WriteFile(pem, both, 0o600); err != nil {
			return err
		}
		bind = " ssl crt " + pem
		server = " ssl verify required ca-file " + s.world.cluster.CAFile()
	}
	text := fmt.Sprintf(haproxyConfig, maxIdle(10_000), s.listen, bind, s.broker, server)
	return os.WriteFile(path, []byte(text), 0o600)
}
