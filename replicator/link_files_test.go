package replicator

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"klink/admin"
	"klink/internal/kafkaclient"
)

// TestSourcesReadNoOtherFiles: a link that another instance took, or one with other settings, has
// no file read here either that links may not name.
func TestSourcesReadNoOtherFiles(t *testing.T) {
	dir := t.TempDir()
	elsewhere := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(elsewhere, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := kafkaclient.LinkFiles([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, allowed := range []kafkaclient.Files{{}, files} {
		for _, path := range []string{elsewhere, "/dev/zero", filepath.Join(dir, "missing.pem")} {
			_, err := newSource(&Replicator{cfg: Config{LinkFiles: allowed}}, &admin.Link{
				Name: "l", Configs: map[string]string{"bootstrap.servers": "a:1", "security.protocol": "SSL", "ssl.truststore.location": path},
			})
			if !errors.Is(err, kafkaclient.ErrFile) {
				t.Fatalf("%s: %v", path, err)
			}
		}
	}
}
