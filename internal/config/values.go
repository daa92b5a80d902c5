package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"klink/internal/kafkaclient"
)

// units of sizes, longest suffix first.
var units = []struct {
	suffix string
	bytes  int64
}{{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"b", 1}, {"", 1}}

// ParseSize reads a number of bytes: 268435456, 256MiB, 64 KiB, 1GiB.
func ParseSize(s string) (int64, error) {
	lower := strings.ToLower(strings.TrimSpace(s))
	for _, u := range units {
		digits, ok := strings.CutSuffix(lower, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.bytes {
			break
		}
		return n * u.bytes, nil
	}
	return 0, fmt.Errorf("%q is not a size: want bytes, or a number with KiB, MiB or GiB", s)
}

func setSize(to *int64, s string, lowest, highest int64) error {
	n, err := ParseSize(s)
	if err != nil {
		return err
	}
	if n < lowest || n > highest {
		return fmt.Errorf("%q is out of range: want %d to %d bytes", s, lowest, highest)
	}
	*to = n
	return nil
}

func setInt(to *int64, s string, lowest, highest int64) error {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || n < lowest || n > highest {
		return fmt.Errorf("%q is not a number from %d to %d", s, lowest, highest)
	}
	*to = n
	return nil
}

// setName takes a text that is allowed in a client id; it may be empty.
func setName(to *string, s string) error {
	if len(s) > 200 {
		return fmt.Errorf("%d bytes are too many; at most 200 are allowed", len(s))
	}
	for _, r := range s {
		if r <= ' ' || r > '~' {
			return fmt.Errorf("%q has a character that is a space or not printable ASCII", s)
		}
	}
	*to = s
	return nil
}

func setBool(to *bool, s string) error {
	b, err := strconv.ParseBool(strings.TrimSpace(s))
	if err != nil {
		return fmt.Errorf("%q is neither true nor false", s)
	}
	*to = b
	return nil
}

func setDuration(to *time.Duration, s string, lowest time.Duration) error {
	d, err := time.ParseDuration(strings.TrimSpace(s))
	if err != nil {
		return fmt.Errorf("%q is not a duration: want a number with a unit, such as 500ms, 30s, 10m", s)
	}
	if d < lowest {
		return fmt.Errorf("%q is too short: at least %v", s, lowest)
	}
	*to = d
	return nil
}

func setDurationUpTo(to *time.Duration, s string, lowest, highest time.Duration) error {
	var d time.Duration
	if err := setDuration(&d, s, lowest); err != nil {
		return err
	}
	if d > highest {
		return fmt.Errorf("%q is too long: at most %v", s, highest)
	}
	*to = d
	return nil
}

func setOneOf(to *string, s string, allowed ...string) error {
	if !slices.Contains(allowed, s) {
		return fmt.Errorf("%q is not one of %s", s, strings.Join(allowed, ", "))
	}
	*to = s
	return nil
}

func setLogLevel(to *slog.Level, s string) error {
	var name string
	if err := setOneOf(&name, strings.ToLower(s), "debug", "info", "warn", "error"); err != nil {
		return err
	}
	return to.UnmarshalText([]byte(name))
}

// setAddresses takes broker addresses in the syntax of bootstrap.servers.
func setAddresses(to *[]string, s string) error {
	seeds, err := kafkaclient.Properties{"bootstrap.servers": s}.Seeds()
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "bootstrap.servers: "))
	}
	*to = seeds
	return nil
}

// setLocal is setListen for a service without authentication: an empty host means the loopback
// address.
func setLocal(to *string, s string) error {
	if err := setListen(to, s); err != nil || s == "" {
		return err
	}
	if host, port, _ := net.SplitHostPort(s); host == "" {
		*to = net.JoinHostPort("127.0.0.1", port)
	}
	return nil
}

// setListen takes an address to listen on. The host may be empty (all addresses), the port 0 (any
// free one).
func setListen(to *string, s string) error {
	if s == "" {
		*to = ""
		return nil
	}
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n > 65535 {
		return fmt.Errorf("%q: the port must be from 0 to 65535", s)
	}
	*to = s
	return nil
}

// setPrincipal takes a principal in Kafka's syntax; empty = none.
func setPrincipal(to *string, s string) error {
	if kind, name, ok := strings.Cut(s, ":"); s != "" && (!ok || kind == "" || name == "") {
		return fmt.Errorf("invalid principal %q: want TYPE:NAME, such as User:klink", s)
	}
	*to = s
	return nil
}

// splitList splits a comma-separated list; empty entries do not count.
func splitList(s string) (list []string) {
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}
