package linkconfig

import (
	"errors"
	"time"
)

// The values of mirror.start.offset.spec that are no time.
const (
	StartEarliest = "earliest"
	StartLatest   = "latest"
)

// startTimes are the accepted forms of a time, in ISO 8601. A time without a zone is UTC, as in
// Kafka's own tools (kafka-consumer-groups --to-datetime). Fractions of a second may follow the
// seconds in any form.
var startTimes = []string{"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05Z07", "2006-01-02T15:04:05", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02"}

// StartTime parses a time. The result is in milliseconds since 1970, rounded up so that the mirror
// does not begin with a record from before the time.
func StartTime(spec string) (ms int64, err error) {
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
	if spec == StartEarliest || spec == StartLatest {
		return nil
	}
	_, err := StartTime(spec)
	return err
}
