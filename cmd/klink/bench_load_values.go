package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// units of bytes, longest suffix first.
var units = []struct {
	suffix string
	bytes  float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}}

var errNotANumber = errors.New("not a number")

// quantity parses a number, with a unit of bytes or without.
func quantity(text string) (n float64, inBytes bool, err error) {
	unit := 1.0
	for _, u := range units {
		if before, found := strings.CutSuffix(text, u.suffix); found {
			text, unit, inBytes = strings.TrimSpace(before), u.bytes, true
			break
		}
	}
	n, err = strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(n) || n < 0 || n*unit > 1e15 {
		return 0, false, errNotANumber
	}
	return n * unit, inBytes, nil
}

// bytesValue parses a number of bytes: 1024, 10KiB, 1MB.
func bytesValue(text string) (int64, error) {
	n, _, err := quantity(text)
	if err == nil && n != math.Trunc(n) {
		err = errNotANumber
	}
	return int64(n), err
}

// rateValue parses a rate in records a second. A rate in bytes a second is divided by the record
// size.
func rateValue(text string, recordSize int64) (float64, error) {
	n, inBytes, err := quantity(strings.TrimSuffix(text, "/s"))
	if inBytes {
		n /= float64(recordSize)
	}
	return n, err
}

// thousands formats a number with commas.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// msText formats a time in milliseconds with about three digits.
func msText(ms float64) string {
	switch {
	case ms >= 100:
		return strconv.FormatFloat(ms, 'f', 0, 64)
	case ms >= 10:
		return strconv.FormatFloat(ms, 'f', 1, 64)
	}
	return strconv.FormatFloat(ms, 'f', 2, 64)
}

// rateText formats a rate in records a second and in MB a second.
func rateText(records, mb float64) string {
	return fmt.Sprintf("%s/s %.1f MB/s", thousands(int64(math.Round(records))), mb)
}
