package replicator

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"klink/admin/model"
	"klink/internal/kafkaclient"
)

// TestSourcesReadNoOtherFiles: no link makes this instance read a file that links may not name, not
// even a link that was stored by another instance, or under other settings.
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
			_, err := newSource(&Replicator{cfg: Config{LinkFiles: allowed}}, &model.Link{
				Name: "l", Configs: map[string]string{"bootstrap.servers": "a:1", "security.protocol": "SSL", "ssl.truststore.location": path},
			})
			if !errors.Is(err, kafkaclient.ErrFile) {
				t.Fatalf("%s: %v", path, err)
			}
		}
	}
}
