package kafkatest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTail(t *testing.T) {
	for _, c := range []struct {
		in    string
		lines int
		want  string
	}{
		{"", 3, ""},
		{"a", 3, "a"},
		{"a\nb\nc\n", 2, "b\nc"},
		{"a\nb\nc", 3, "a\nb\nc"},
		{"a\nb\nc", 4, "a\nb\nc"},
		{"\na", 1, "a"},
	} {
		if got := string(tail([]byte(c.in), c.lines)); got != c.want {
			t.Errorf("tail(%q, %d) = %q, want %q", c.in, c.lines, got, c.want)
		}
	}
	path := filepath.Join(t.TempDir(), "log")
	if got := TailFile(path, 1); !strings.Contains(got, "no such file") {
		t.Errorf("tail of no file: %q", got)
	}
	if err := os.WriteFile(path, []byte("one\ntwo\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := TailFile(path, 1); got != "two" {
		t.Errorf("tail of a file: %q", got)
	}
}

func TestProcess(t *testing.T) {
	p, err := StartProcess(exec.Command("sleep", "600"))
	if err != nil {
		t.Fatal(err)
	}
	if code, err := p.Terminate(time.Minute); err != nil || code != -1 {
		t.Errorf("SIGTERM: code %d, %v; want -1, for a signal", code, err)
	}
	p.Kill() // again, harmless

	p, err = StartProcess(exec.Command("sh", "-c", "exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	if code := p.ExitCode(); code != 3 || p.Err() == nil {
		t.Errorf("exit code %d, %v, want 3 and an error", code, p.Err())
	}
}

// The children of a test binary that is killed die with it.
func TestProcessDiesWithParent(t *testing.T) {
	const env = "KAFKATEST_PARENT_OF_SLEEP"
	if os.Getenv(env) != "" {
		p, err := StartProcess(exec.Command("sleep", "600"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(os.Getenv(env), []byte(strconv.Itoa(p.PID())), 0o644); err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		return
	}
	pidFile := filepath.Join(t.TempDir(), "pid")
	parent := exec.Command(os.Args[0], "-test.run=^TestProcessDiesWithParent$")
	parent.Env = append(os.Environ(), env+"="+pidFile)
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var child int
	WaitFor(t, time.Minute, "the child's process id", func() (bool, string) {
		data, err := os.ReadFile(pidFile)
		child, _ = strconv.Atoi(string(data))
		return err == nil && child > 0, string(data)
	})
	if err := parent.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	WaitFor(t, time.Minute, "the child to die", func() (bool, string) { return !runs(child), "it runs" })
}

func TestPortsAreReserved(t *testing.T) {
	base := FreePorts(t, 3)
	dir := filepath.Join(os.TempDir(), "klink-ports-"+strconv.Itoa(os.Getuid()))
	if b := tryPorts(dir, base+2, 1); b != nil {
		t.Error("a reserved port was given again")
		b.release()
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if b := tryPorts(dir, ln.Addr().(*net.TCPAddr).Port, 1); b != nil {
		t.Error("a port in use was given")
		b.release()
	}
}

func TestProcessDirSweepsAfterTheDead(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(os.TempDir(), "klink-sweep-"+strconv.Itoa(dead.Process.Pid)+"-1")
	other := filepath.Join(os.TempDir(), "klink-sweep-notes")
	for _, dir := range []string{left, other} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mine, err := ProcessDir("sweep")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ProcessDir("sweep"); err != nil {
		t.Fatal(err)
	}
	if isDir(left) || !isDir(other) || !isDir(mine) {
		t.Errorf("left behind: %v, another's: %v, mine: %v; want only the first to be gone", isDir(left), isDir(other), isDir(mine))
	}
}

// A second test binary, or a crashed one before, must not be able to see half a set of jars.
func TestProvisionIsIdempotent(t *testing.T) {
	Require(t)
	for _, v := range []Version{V431, V241} {
		a, err := Provision(v)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Provision(v)
		if err != nil || a != b {
			t.Errorf("%s: %q then %q, %v", v, a, b, err)
		}
	}
}

// runs reports whether a process exists and is not merely a zombie, as a process stays if nothing
// collects orphans.
func runs(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}
