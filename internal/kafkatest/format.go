package kafkatest

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
)

// bootstrapCheckpoint is the file that Kafka's storage tool leaves in a formatted directory beside
// meta.properties: the feature levels that a cluster begins with. It is the same for every cluster
// without SCRAM users, so it is made once and copied, which saves a JVM per broker.
const bootstrapCheckpoint = "bootstrap.checkpoint"

// formatOnce makes the bootstrap checkpoint in the directory of the jars.
func formatOnce(lib string) error {
	dir, err := os.MkdirTemp("", "klink-kafka-format-*")
	if err != nil {
		return fmt.Errorf("kafkatest: %w", err)
	}
	defer os.RemoveAll(dir)
	config := filepath.Join(dir, "server.properties")
	data := filepath.Join(dir, "data")
	err = writeProperties(config, map[string]string{
		"process.roles":             "broker,controller",
		"node.id":                   "1",
		"controller.quorum.voters":  "1@127.0.0.1:9093",
		"listeners":                 "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093",
		"controller.listener.names": "CONTROLLER",
		"log.dirs":                  data,
	})
	if err != nil {
		return err
	}
	if err := runFormat(lib, config, randomUUID(), nil); err != nil {
		return err
	}
	checkpoint, err := os.ReadFile(filepath.Join(data, bootstrapCheckpoint))
	if err != nil {
		return fmt.Errorf("kafkatest: %w", err)
	}
	return writeAtomically(filepath.Join(lib, bootstrapCheckpoint), checkpoint)
}

func runFormat(lib, config, clusterID string, scram []scramUser) error {
	args := slices.Concat(fastJVM, []string{
		"-Xmx128m", "-cp", filepath.Join(lib, "*"), "kafka.tools.StorageTool",
		"format", "-t", clusterID, "-c", config,
	})
	for _, u := range scram {
		args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", u.mechanism, u.name, u.password))
	}
	if out, err := exec.Command("java", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("kafkatest: format the storage of %s: %w\n%s", config, err, tail(out, 20))
	}
	return nil
}

// format formats the data directory of a broker as the storage tool would.
func (c *Cluster) format(b *Broker) error {
	if len(c.opts.scram) > 0 {
		return runFormat(c.lib, b.configPath(), c.id, c.opts.scram)
	}
	checkpoint, err := os.ReadFile(filepath.Join(c.lib, bootstrapCheckpoint))
	if err != nil {
		return fmt.Errorf("kafkatest: %w", err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, bootstrapCheckpoint), checkpoint, 0o644); err != nil {
		return fmt.Errorf("kafkatest: %w", err)
	}
	return writeProperties(filepath.Join(b.dir, "meta.properties"), map[string]string{
		"version":      "1",
		"cluster.id":   c.id,
		"node.id":      strconv.Itoa(b.id),
		"directory.id": randomUUID(),
	})
}

// randomUUID returns a UUID of version 4 in Kafka's form: 22 characters of base64 that do not begin
// with a dash.
func randomUUID() string {
	var id [16]byte
	for {
		_, _ = rand.Read(id[:]) // never fails
		id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
		if s := base64.RawURLEncoding.EncodeToString(id[:]); s[0] != '-' {
			return s
		}
	}
}

func writeAtomically(path string, data []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return fmt.Errorf("kafkatest: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("kafkatest: %w", err)
	}
	return nil
}
