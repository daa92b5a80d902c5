// Package e2e tests klink from the outside: the binary as people run it, real Kafka clusters on
// both sides, and clients that know nothing of klink. harness.go has the helpers, the rest is
// tests.
package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"klink/internal/kafkatest"
)

const (
	// maxBrokers is how many destination brokers get a port of the block that a klink reserves.
	maxBrokers = 10
	// readyTimeout is for a machine on which every core is busy.
	readyTimeout = time.Minute
	// exitTimeout is more than serve's own drain time-out.
	exitTimeout = 45 * time.Second
	// cliTimeout ends a command that hangs.
	cliTimeout = 2 * time.Minute
)

// build makes the binary once per test run. It stays until removeBinary.
var build = sync.OnceValues(func() (string, error) { return buildWith() })

// buildHooked makes a binary with the hooks of tests.
var buildHooked = sync.OnceValues(func() (string, error) { return buildWith("-tags", "klinkhooks") })

func buildWith(flags ...string) (string, error) {
	dir, err := kafkatest.ProcessDir("e2e")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "klink")
	args := append([]string{"build", "-o", bin}, flags...)
	if os.Getenv("KLINK_E2E_RACE") == "1" {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "klink/cmd/klink")...).CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		return "", fmt.Errorf("go build klink/cmd/klink: %w\n%s", err, out)
	}
	return bin, nil
}

var built sync.Map // of directories to remove

func klinkBinary(t testing.TB) string {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	built.Store(filepath.Dir(bin), nil)
	return bin
}

func hookedBinary(t testing.TB) string {
	t.Helper()
	bin, err := buildHooked()
	if err != nil {
		t.Fatal(err)
	}
	built.Store(filepath.Dir(bin), nil)
	return bin
}

func removeBinary() (err error) {
	built.Range(func(dir, _ any) bool { err = errors.Join(err, os.RemoveAll(dir.(string))); return true })
	return err
}

// Klink is a `klink serve` in front of a destination, as a process of its own on 127.0.0.1. Its
// addresses stay the same over restarts. It ends with the test; when it ends before without being
// told to, the test fails.
type Klink struct {
	t         testing.TB
	args      []string
	port      int
	configDir string // of the command line's contexts
	// commandConfig is the file of --command-config for commands that name none; empty = none is
	// needed.
	commandConfig string
	logPath       string
	// ownsAll: it is started so that it believes to be the only instance.
	ownsAll bool

	mu   sync.Mutex
	proc *kafkatest.Process // nil while it is not meant to run
}

// StartKlink runs klink before a destination and waits until it is ready. It connects as the
// destination's super user where that has users. Flags of serve may be added; a later one wins.
func StartKlink(t testing.TB, destination *kafkatest.Cluster, flags ...string) *Klink {
	t.Helper()
	base := kafkatest.FreePorts(t, maxBrokers+2)
	k := &Klink{t: t, port: base, configDir: t.TempDir(), logPath: filepath.Join(t.TempDir(), "klink.log")}
	k.args = append([]string{
		"serve",
		"--destination", destination.Bootstrap(),
		"--destination-config", destination.PropertiesFile(t, kafkatest.SuperUser, kafkatest.SuperUserPassword),
		"--listen", k.Bootstrap(),
		"--http", k.HTTP(),
	}, flags...)
	t.Cleanup(k.end)
	k.start()
	return k
}

// Bootstrap is the address that clients bootstrap from.
func (k *Klink) Bootstrap() string { return fmt.Sprintf("127.0.0.1:%d", k.port) }

// Port is the port of [Klink.Bootstrap]; the brokers follow it.
func (k *Klink) Port() int { return k.port }

// BrokerAddr is the address of the n-th destination broker, counted from 0 in the order of broker
// ids.
func (k *Klink) BrokerAddr(t testing.TB, n int) string {
	t.Helper()
	if n < 0 || n >= maxBrokers {
		t.Fatalf("broker %d of a klink that has ports for %d", n, maxBrokers)
	}
	return fmt.Sprintf("127.0.0.1:%d", k.port+1+n)
}

// HTTP is the address of metrics and probes.
func (k *Klink) HTTP() string { return fmt.Sprintf("127.0.0.1:%d", k.port+1+maxBrokers) }

// Kill ends klink as a crash would (SIGKILL).
func (k *Klink) Kill() {
	k.t.Helper()
	if proc := k.take(); proc != nil {
		proc.Kill()
	}
}

// Terminate sends SIGTERM and returns the exit code. Not ending in time fails the test.
func (k *Klink) Terminate(t testing.TB) int {
	t.Helper()
	proc := k.take()
	if proc == nil {
		t.Fatal("klink does not run")
	}
	code, err := proc.Terminate(exitTimeout)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// Restart starts klink again, after ending it with SIGTERM if it runs, and waits until it is ready.
func (k *Klink) Restart() {
	k.t.Helper()
	if proc := k.take(); proc != nil {
		if _, err := proc.Terminate(exitTimeout); err != nil {
			k.t.Fatal(err)
		}
	}
	k.start()
}

// MustRun fails the test unless klink has run without an end since its last start.
func (k *Klink) MustRun(t testing.TB) {
	t.Helper()
	k.process(t)
}

// PID is the process id.
func (k *Klink) PID(t testing.TB) int {
	t.Helper()
	return k.process(t).PID()
}

// RSS is the resident memory of the process now, in bytes.
func (k *Klink) RSS(t testing.TB) int64 {
	t.Helper()
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", k.PID(t)))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(statm))
	if len(fields) < 2 {
		t.Fatalf("statm: %q", statm)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// Log is what klink has logged so far, over all its starts.
func (k *Klink) Log(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile(k.logPath)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Metrics is the text of /metrics.
func (k *Klink) Metrics(t testing.TB) string {
	t.Helper()
	resp, err := http.Get("http://" + k.HTTP() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("/metrics: %s, %v\n%s", resp.Status, err, body)
	}
	return string(body)
}

// CLI runs a command of klink's command line against this klink, unless the arguments name another
// server.
func (k *Klink) CLI(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return k.CLIInput(t, "", args...)
}

// CLIInput is [Klink.CLI] with a standard input.
func (k *Klink) CLIInput(t testing.TB, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return RunCommand(t, k.configDir, stdin, k.withServer(args)...)
}

// MustCLI is [Klink.CLI] that fails the test unless the exit code is 0, and returns the standard
// output.
func (k *Klink) MustCLI(t testing.TB, args ...string) string {
	t.Helper()
	stdout, stderr, code := k.CLI(t, args...)
	if code != 0 {
		t.Fatalf("klink %s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// StartCLI starts a command that goes on while the test does, against this klink unless the
// arguments name another.
func (k *Klink) StartCLI(t testing.TB, stdin io.Reader, args ...string) *Command {
	t.Helper()
	return StartCommand(t, k.configDir, stdin, k.withServer(args)...)
}

func (k *Klink) withServer(args []string) []string {
	for _, a := range args {
		if strings.HasPrefix(a, "--bootstrap-server") || strings.HasPrefix(a, "--cluster") {
			return args
		}
	}
	args = append(slices.Clone(args), "--bootstrap-server", k.Bootstrap())
	if k.commandConfig != "" && !slices.Contains(args, "--command-config") {
		args = append(args, "--command-config", k.commandConfig)
	}
	return args
}

// process is the running process; the test fails where there is none.
func (k *Klink) process(t testing.TB) *kafkatest.Process {
	t.Helper()
	k.mu.Lock()
	proc := k.proc
	k.mu.Unlock()
	if proc == nil {
		t.Fatal("klink does not run")
	}
	select {
	case <-proc.Done():
		t.Fatalf("klink ended by itself: exit code %d\n%s", proc.ExitCode(), kafkatest.TailFile(k.logPath, 40))
	default:
	}
	return proc
}

// take hands the process over to the caller, who ends it. One that has ended already fails the
// test.
func (k *Klink) take() *kafkatest.Process {
	k.t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	proc := k.proc
	k.proc = nil
	if proc == nil {
		return nil
	}
	select {
	case <-proc.Done():
		k.t.Errorf("klink ended by itself: exit code %d\n%s", proc.ExitCode(), kafkatest.TailFile(k.logPath, 40))
	default:
	}
	return proc
}

func (k *Klink) start() {
	k.t.Helper()
	log, err := os.OpenFile(k.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		k.t.Fatal(err)
	}
	defer log.Close() // the child has its own
	binary, env := klinkBinary(k.t), environment(k.configDir)
	if k.ownsAll {
		binary, env = hookedBinary(k.t), append(env, "KLINK_HOOK_OWNS_ALL=1")
	}
	cmd := exec.Command(binary, k.args...)
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = log, log
	proc, err := kafkatest.StartProcess(cmd)
	if err != nil {
		k.t.Fatal(err)
	}
	k.mu.Lock()
	k.proc = proc
	k.mu.Unlock()
	client := http.Client{Timeout: 5 * time.Second}
	kafkatest.WaitFor(k.t, readyTimeout, "klink to be ready", func() (bool, string) {
		k.process(k.t)
		resp, err := client.Get("http://" + k.HTTP() + "/readyz")
		if err != nil {
			return false, err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return resp.StatusCode == http.StatusOK, resp.Status + " " + string(body)
	})
}

func (k *Klink) end() {
	if proc := k.take(); proc != nil {
		proc.Kill()
	}
	if k.t.Failed() {
		name, _, _ := strings.Cut(k.t.Name(), "/")
		k.t.Logf("klink at %s, end of its log:\n%s", k.Bootstrap(), kafkatest.TailFile(k.logPath, 80))
		k.t.Logf("to run this test alone: go test -count=1 -run '^%s$' ./internal/e2e", name)
	}
}

// RunCommand runs klink with exactly these arguments and waits for its end. configDir holds the
// contexts.
func RunCommand(t testing.TB, configDir, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	c := StartCommand(t, configDir, strings.NewReader(stdin), args...)
	timer := time.NewTimer(cliTimeout)
	defer timer.Stop()
	select {
	case <-c.Done():
	case <-timer.C:
		c.Kill()
		t.Fatalf("klink %s did not end within %v\n%s%s", strings.Join(args, " "), cliTimeout, c.Stdout(), c.Stderr())
	}
	return c.Stdout(), c.Stderr(), c.ExitCode()
}

// Command is a klink command at work, killed at the end of the test at the latest.
type Command struct {
	*kafkatest.Process
	stdout, stderr kafkatest.Output
}

// StartCommand starts klink with exactly these arguments. configDir holds the contexts; stdin may
// be nil.
func StartCommand(t testing.TB, configDir string, stdin io.Reader, args ...string) *Command {
	t.Helper()
	c := &Command{}
	cmd := exec.Command(klinkBinary(t), args...)
	cmd.Env = environment(configDir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &c.stdout, &c.stderr
	cmd.WaitDelay = time.Second // do not wait for a standard input that never ends
	proc, err := kafkatest.StartProcess(cmd)
	if err != nil {
		t.Fatal(err)
	}
	c.Process = proc
	t.Cleanup(proc.Kill)
	return c
}

// Stdout is what the command has written so far.
func (c *Command) Stdout() string { return c.stdout.String() }

// Stderr is what the command has written so far.
func (c *Command) Stderr() string { return c.stderr.String() }

// environment is the machine's without any setting of klink, and with contexts of the test's own.
func environment(configDir string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "KLINK_") })
	return append(env, "KLINK_CONFIG_DIR="+configDir)
}
