package admin

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// The values of mirror.start.offset.spec that are no time.
const (
	startEarliest = "earliest"
	startLatest   = "latest"
)

// startTimes are the forms of a time, in ISO 8601, that are taken. Kafka's own tools
// (kafka-consumer-groups --to-datetime) take the time without a zone as UTC, too. Fractions of a
// second may follow the seconds in any of them.
var startTimes = []string{"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05Z07", "2006-01-02T15:04:05", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02"}

// startTime reads a time; the result is in milliseconds since 1970, rounded up, so that no record
// before the time is meant.
func startTime(spec string) (ms int64, err error) {
	for _, form := range startTimes {
		t, err := time.Parse(form, spec)
		if err != nil {
			continue
		}
		ms := t.UnixMilli()
		if t.After(time.UnixMilli(ms)) {
			ms++
		}
		// ListOffsets has other meanings for negative timestamps.
		if ms < 0 {
			return 0, errors.New("that is before 1970")
		}
		return ms, nil
	}
	return 0, errNotAllowed
}

func checkStartOffset(spec string) error {
	if spec == startEarliest || spec == startLatest {
		return nil
	}
	_, err := startTime(spec)
	return err
}

// listStarts asks for the offset at which a mirror of each partition of a topic begins.
//
// latest is the high watermark, not the last stable offset: what is written from now on is all
// mirrored either way, and of a transaction that is open now only the records from here on are, as
// a consumer that begins at latest would see them with read_uncommitted. The last stable offset
// would bring old records of other producers with them, possibly very many.
func (s *source) listStarts(ctx context.Context, topic, spec string) (kadm.ListedOffsets, error) {
	switch spec {
	case startEarliest:
		return s.admin.ListStartOffsets(ctx, topic)
	case startLatest:
		return s.admin.ListEndOffsets(ctx, topic)
	}
	ms, err := startTime(spec)
	if err != nil {
		return nil, err
	}
	// Without a record that is as late, this is the end.
	return s.admin.ListOffsetsAfterMilli(ctx, ms, topic)
}
