package kafkatest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Ports are chosen below the ephemeral range of Linux (32768 and up). So no outgoing connection
// takes a port between the moment it is chosen and the moment a server listens. A file lock marks
// each port until it is released or the process ends, so that test binaries that run side by side
// do not choose the same one.
const (
	firstPort = 20000
	lastPort  = 32000
)

// A portBlock is a number of consecutive ports of 127.0.0.1 reserved for this process.
type portBlock struct {
	base  int
	locks []*os.File
}

func (b *portBlock) release() {
	for _, f := range b.locks {
		f.Close()
	}
	b.locks = nil
}

// FreePorts reserves n consecutive free ports on 127.0.0.1 until the end of the test and returns
// the first.
func FreePorts(t testing.TB, n int) int {
	t.Helper()
	b, err := reservePorts(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.release)
	return b.base
}

// ReservePorts is [FreePorts] for programs that are not tests: the ports stay reserved until
// release is called or the process ends.
func ReservePorts(n int) (first int, release func(), err error) {
	b, err := reservePorts(n)
	if err != nil {
		return 0, nil, err
	}
	return b.base, b.release, nil
}

func reservePorts(n int) (*portBlock, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("klink-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("kafkatest: %w", err)
	}
	for range 1000 {
		base := firstPort + rand.IntN(lastPort-firstPort-n)
		if b := tryPorts(dir, base, n); b != nil {
			return b, nil
		}
	}
	return nil, fmt.Errorf("kafkatest: no %d consecutive free ports between %d and %d", n, firstPort, lastPort)
}

func tryPorts(dir string, base, n int) *portBlock {
	b := &portBlock{base: base}
	for port := base; port < base+n; port++ {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprint(port)), os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			b.release()
			return nil
		}
		b.locks = append(b.locks, f)
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil || !portFree(port) {
			b.release()
			return nil
		}
	}
	return b
}

func portFree(port int) bool {
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	return ln.Close() == nil
}
