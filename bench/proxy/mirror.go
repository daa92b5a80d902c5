package proxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"klink/bench/wire"
)

const mirrorPartitions = 4

// mirrorWorld is a source inside this process, a link to it, and mirrors of topics with batches of
// the sizes that the workloads need. The first batch of each partition is deleted at the source
// before klink mirrors it, and the link does not align. So every offset is shifted.
type mirrorWorld struct {
	source *kfake.Cluster
	klink  *subject
	direct *subject
	dir    string
	linked bool
	ready  map[int]bool // by size of batches
}

func (m *mirrorWorld) stop() { m.source.Close() }

// subjects returns the subjects that can serve a mirror: klink, and the broker without a proxy.
func (m *mirrorWorld) subjects(all []*subject) (subjects []*subject) {
	for _, s := range all {
		if s == m.klink || s == m.direct {
			subjects = append(subjects, s)
		}
	}
	return subjects
}

// prepareMirror makes the mirrors that a workload reads.
func (b *benchmark) prepareMirror(ctx context.Context, size int) (err error) {
	if b.mirror == nil {
		m := &mirrorWorld{dir: b.world.dir, ready: map[int]bool{}}
		for _, s := range b.world.subjects {
			switch {
			case s.name == Klink && !s.tls:
				m.klink = s
			case s.name == Direct && !s.tls:
				m.direct = s
			}
		}
		if m.source, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID("bench-source")); err != nil {
			return err
		}
		b.mirror = m
	}
	return b.mirror.prepare(ctx, size)
}

// prepare fills a topic at the source, deletes its first offsets, links to it, mirrors it, and
// waits until the mirror has everything.
func (m *mirrorWorld) prepare(ctx context.Context, size int) error {
	if m.ready[batchFor(size)] {
		return nil
	}
	if err := m.klink.start(ctx); err != nil {
		return err
	}
	topic, source := mirrorTopic(size), m.source.ListenAddrs()[0]
	steps := [][]string{{"topic", "create", topic, "--partitions", fmt.Sprint(mirrorPartitions), "--bootstrap-server", source}}
	if err := m.commands(ctx, steps); err != nil {
		return err
	}
	if err := fillTopic(ctx, source, topic, mirrorPartitions, size); err != nil {
		return err
	}
	if err := deleteRecords(ctx, source, topic, mirrorPartitions, mirrorStart(size)); err != nil {
		return err
	}
	steps = nil
	if !m.linked {
		config := filepath.Join(m.dir, "source.properties")
		if err := os.WriteFile(config, []byte("bootstrap.servers="+source+"\n"), 0o600); err != nil {
			return err
		}
		steps = append(steps, []string{"link", "create", "bench", "--config-file", config, "--config", "offset.alignment=off", "--bootstrap-server", m.klink.listen})
	}
	steps = append(steps, []string{"topic", "create", topic, "--link", "bench", "--mirror-topic", topic, "--bootstrap-server", m.klink.listen})
	if err := m.commands(ctx, steps); err != nil {
		return err
	}
	m.linked = true
	if err := m.await(ctx, topic, size); err != nil {
		return err
	}
	m.ready[batchFor(size)] = true
	return nil
}

func mirrorTopic(size int) string { return fmt.Sprintf("bench-mirror-%d", batchFor(size)) }

// mirrorStart returns the first offset of a mirror: that of the second batch. So the offsets of the
// mirror are shifted by the length of the first batch.
func mirrorStart(size int) int64 { return wire.RecordsOf(wire.RecordBatch(batchFor(size), 1)) }

// commands runs klink's commands like a user.
func (m *mirrorWorld) commands(ctx context.Context, commands [][]string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, args := range commands {
		cmd := exec.CommandContext(ctx, self, args...)
		cmd.Env = append(os.Environ(), "KLINK_CONFIG_DIR="+m.dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("klink %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// await waits until all partitions of a mirror end at the source's ends, and checks that their
// offsets at the broker itself are shifted.
func (m *mirrorWorld) await(ctx context.Context, topic string, size int) error {
	end, _ := fillEnd(size)
	deadline := time.Now().Add(time.Minute)
	for p := int32(0); p < mirrorPartitions; {
		at, err := wire.End(ctx, m.klink.listen, topic, p)
		if err == nil && at == end {
			own, err := wire.End(ctx, m.direct.listen, topic, p)
			if err != nil {
				return err
			}
			if own != end-mirrorStart(size) {
				return fmt.Errorf("mirror %s-%d ends at offset %d of the broker: want %d, shifted by %d", topic, p, own, end-mirrorStart(size), mirrorStart(size))
			}
			p++
			continue
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("mirror %s-%d is at %d of %d after a minute", topic, p, at, end), err)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// askers opens connections that read through klink with the source's offsets, and at the broker
// with the broker's own.
func (m *mirrorWorld) askers(ctx context.Context, s *subject, addr string, w workload) (askers []asker, err error) {
	end, batches := fillEnd(w.size)
	start, batches := mirrorStart(w.size), batches-1
	per := start // offsets per batch
	if s == m.direct {
		start, end = 0, end-start
	}
	for i := range w.connections {
		from := start + int64(i*batches/w.connections)*per
		f, err := wire.NewFetcher(ctx, addr, nil, mirrorTopic(w.size), int32(i%mirrorPartitions), w.size, start, end, from)
		if err != nil {
			return askers, err
		}
		askers = append(askers, f)
	}
	return askers, nil
}
