package notices

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"klink/admin/model"
	"klink/admin/store"
	"klink/admin/topicconfig"
	"klink/protocol/timeline"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Notices tell people how a mirror's topic at the destination differs from what klink has made of
// it. Anyone who reaches the brokers can change it around klink. klink does not undo such a change,
// because it cannot or because the destination decides about it. Instead a notice names the change
// and says what to do. klink looks for changes when somebody asks.

// noticePatience bounds the time for asking the destination, so that a person who asks how mirrors
// are doing gets an answer in any case.
const noticePatience = 5 * time.Second

// Of returns a function that finds the notices of the mirrors in topics. It leaves out what the
// destination does not tell. ungrown says why a mirror was not given partitions, "" if that is not
// known.
func Of(ctx context.Context, admin *kadm.Client, log *slog.Logger, state *model.State, topics []string, ungrown func(topic string) string) func(m *model.Mirror) []string {
	ctx, cancel := context.WithTimeout(ctx, noticePatience)
	defer cancel()
	var ask []string
	for _, topic := range topics {
		if m := state.Mirrors[topic]; m != nil && m.Created && m.State != model.MirrorStopped {
			ask = append(ask, topic)
		}
	}
	var meta kadm.Metadata
	var starts, ends, stable kadm.ListedOffsets
	var unlimited map[string]bool
	if len(ask) > 0 {
		var err error
		if meta, err = admin.Metadata(ctx, ask...); err != nil {
			log.Warn("could not describe the topics of mirrors at the destination", "error", err)
			ask = nil
		} else if starts, ends, stable, err = logBounds(ctx, admin, ask); err != nil {
			log.Debug("could not list the start and end offsets of mirrors at the destination", "error", err)
		}
	}
	var late []string // topics whose log begins above where klink lets it begin
	for _, topic := range ask {
		if _, _, ok := deleted(state.Timelines[topic], starts[topic]); ok {
			late = append(late, topic)
		}
	}
	if len(late) > 0 {
		unlimited = keepForever(ctx, admin, log, late)
	}
	return func(m *model.Mirror) (found []string) {
		if text := voidNotice(m); text != "" {
			found = append(found, text)
		}
		if !slices.Contains(ask, m.Topic) {
			return found
		}
		t, ok := meta.Topics[m.Topic]
		if !ok {
			return found
		}
		found = append(found, topicNotices(m, t)...)
		if n := int32(len(t.Partitions)); t.Err == nil && n < m.Partitions {
			if why := ungrown(m.Topic); why != "" {
				found = append(found, fmt.Sprintf("The topic has %d partitions at the destination, but %d at the source: klink copies nothing of the others, because it could not add them: %.500s. "+
					"klink keeps trying; somebody else may add them, if nothing is written to them", n, m.Partitions, why))
			}
		}
		if p, at, ok := deleted(state.Timelines[m.Topic], starts[m.Topic]); ok && unlimited[m.Topic] {
			found = append(found, fmt.Sprintf("Somebody deleted records at the destination, not through klink: the log of partition %d begins at physical offset %d, but klink has deleted none from %d on. "+
				"klink does not copy them again; to get them back, delete the topic and re-create the mirror, and allow only klink to delete its records", p, starts[m.Topic][p].Offset, at))
		}
		if p, at, ok := openAround(m, ends[m.Topic], stable[m.Topic]); ok {
			found = append(found, fmt.Sprintf("A transaction is open in partition %d at the destination, from physical offset %d on; somebody began it, not through klink. "+
				"Consumers with read_committed see no records after it. It ends with its producer's time-out; if no coordinator knows it, end it with kafka-transactions.sh abort", p, at))
		}
		return found
	}
}

// logBounds returns the log start offsets of topics, their ends and, requested after the ends,
// their last stable offsets.
func logBounds(ctx context.Context, admin *kadm.Client, topics []string) (starts, ends, stable kadm.ListedOffsets, err error) {
	if starts, err = admin.ListStartOffsets(ctx, topics...); err != nil {
		return nil, nil, nil, err
	}
	if ends, err = admin.ListEndOffsets(ctx, topics...); err != nil {
		return starts, nil, nil, err
	}
	stable, err = admin.ListCommittedOffsets(ctx, topics...)
	return starts, ends, stable, err
}

// openAround finds a partition with an open transaction, which somebody began around klink: a
// mirror has no transactions of its source. The end was listed before the last stable offset, so
// the latter is below it only while a transaction is open.
func openAround(m *model.Mirror, ends, stable map[int32]kadm.ListedOffset) (partition int32, at int64, ok bool) {
	for p := range m.Partitions {
		end, known := ends[p]
		lso, also := stable[p]
		if known && also && end.Err == nil && lso.Err == nil && lso.Offset >= 0 && lso.Offset < end.Offset {
			return p, lso.Offset, true
		}
	}
	return 0, 0, false
}

// topicNotices compares the topic of a mirror with what klink has made.
func topicNotices(m *model.Mirror, t kadm.TopicDetail) (found []string) {
	switch {
	case errors.Is(t.Err, kerr.UnknownTopicOrPartition):
		return []string{"The topic does not exist at the destination: it was deleted there, not through klink. Re-create the mirror, or fail it over"}
	case t.Err != nil:
		return nil // not known now
	case m.TopicID != [16]byte{} && t.ID != kadm.TopicID{} && t.ID != kadm.TopicID(m.TopicID):
		return []string{"The mirror's topic was deleted and created again at the destination, not through klink. Delete the topic and re-create the mirror, or fail the mirror over"}
	}
	if n := int32(len(t.Partitions)); n > m.Partitions {
		found = append(found, fmt.Sprintf("The topic has %d partitions at the destination, but %d at the source: somebody added partitions, not through klink. klink hides them (requests for them fail with NOT_LEADER_OR_FOLLOWER), and copies nothing to them. "+
			"Partitions cannot be removed: if nothing was written to them, add as many at the source; otherwise delete the topic and re-create the mirror", n, m.Partitions))
	}
	want, odd, has := int(m.ReplicationFactor), int32(-1), 0
	for p := range m.Partitions {
		d, ok := t.Partitions[p]
		if !ok {
			continue
		}
		if want <= 0 {
			want = len(d.Replicas) // those of partition 0, of a topic that was given the brokers' default
		}
		if len(d.Replicas) != want && odd < 0 {
			odd, has = p, len(d.Replicas)
		}
	}
	if odd >= 0 {
		found = append(found, fmt.Sprintf("Partition %d has %d replicas at the destination, but the topic was created with %d: somebody reassigned them, not through klink. "+
			"If that was a mistake, reassign them again; the mirror works either way", odd, has, want))
	}
	return found
}

// deleted finds a partition whose log begins above at, the physical offset where klink lets it
// begin.
func deleted(tls []*timeline.Partition, starts map[int32]kadm.ListedOffset) (partition int32, at int64, ok bool) {
	for p, t := range tls {
		start, known := starts[int32(p)]
		if !known || start.Err != nil || t.Floor() == store.OutOfRange {
			continue
		}
		if at, _ = t.Start(); start.Offset > at {
			return int32(p), at, true
		}
	}
	return 0, 0, false
}

// keepForever reports for which topics the destination deletes no records by itself.
func keepForever(ctx context.Context, admin *kadm.Client, log *slog.Logger, topics []string) map[string]bool {
	keep := map[string]bool{}
	of, err := topicconfig.DescribeAll(ctx, admin, topics)
	if err != nil {
		log.Debug("could not read the retention of mirrors at the destination", "error", err)
		return keep
	}
	for _, topic := range topics {
		c := of[topic].Configs
		keep[topic] = of[topic].Err == nil && (c["cleanup.policy"].Value == "compact" || c["retention.ms"].Value == "-1" && c["retention.bytes"].Value == "-1")
	}
	return keep
}

// voidNotice describes the void batches in a mirror's log, and what they mean; "" = there are none.
func voidNotice(m *model.Mirror) string {
	if !m.HasVoid() {
		return ""
	}
	var offsets, foreign int64
	unsafe := 0
	for _, v := range m.Void {
		offsets += v.Offsets
		foreign += v.Foreign
		if !v.Safe {
			unsafe++
		}
	}
	var text strings.Builder
	if first := m.Void; len(first) > 0 {
		fmt.Fprintf(&text, "%d offsets in %d partitions of the log are void, first in partition %d from physical offset %d on; somebody wrote %d of them, not through klink, and klink wrote the others twice or too late. Clients of klink do not see them",
			offsets, len(m.Void), first[0].Partition, first[0].From, foreign)
	} else {
		text.WriteString("Offsets in the log are void")
	}
	switch {
	case m.State == model.MirrorStopped:
		text.WriteString(". Compaction is paused, because it would remove valid records; the error message says what to do")
	case !model.Compacts(m.CleanupPolicy):
	default:
		text.WriteString(". COMPACTION IS PAUSED, because it would keep the void records instead of the mirror's. Promote the mirror or fail it over: klink then re-appends the last valid record of each of their keys. Or delete the topic and re-create the mirror. Allow only klink to write to the topic")
		if unsafe > 0 {
			text.WriteString(". klink is checking whether the cleaner has already removed records")
		}
	}
	return text.String()
}
