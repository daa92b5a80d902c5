package kafkatest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// toolTimeout bounds the run of a Java tool, in case it hangs.
const toolTimeout = 2 * time.Minute

// Main classes of Kafka's command line tools, for [JavaTool].
const (
	TopicCommand         = "org.apache.kafka.tools.TopicCommand"
	ConfigCommand        = "kafka.admin.ConfigCommand"
	ACLCommand           = "org.apache.kafka.tools.AclCommand"
	ConsoleProducer      = "org.apache.kafka.tools.ConsoleProducer"
	ConsoleConsumer      = "org.apache.kafka.tools.consumer.ConsoleConsumer"
	ConsumerGroupCommand = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
	ProducerPerformance  = "org.apache.kafka.tools.ProducerPerformance"
	ConsumerPerformance  = "org.apache.kafka.tools.ConsumerPerformance"
	GetOffsetShell       = "org.apache.kafka.tools.GetOffsetShell"
	DeleteRecordsCommand = "org.apache.kafka.tools.DeleteRecordsCommand"
	ClusterTool          = "org.apache.kafka.tools.ClusterTool"
	BrokerAPIVersions    = "org.apache.kafka.tools.BrokerApiVersionsCommand"
)

// Tool runs a Java tool of Kafka 4.3.1 without standard input; see [JavaTool]. The caller passes
// the server's address (--bootstrap-server, --command-config), so the tool may also connect to a
// proxy in front of this cluster.
func (c *Cluster) Tool(t testing.TB, mainClass string, args ...string) (string, error) {
	t.Helper()
	return JavaTool(t, "", mainClass, args...)
}

// JavaTool runs a main class from the jars of Kafka 4.3.1 with the given standard input and returns
// its standard output. An exit code other than 0 is an error that carries the end of both outputs.
func JavaTool(t testing.TB, stdin, mainClass string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), toolTimeout)
	defer cancel()
	tool := StartTool(t, strings.NewReader(stdin), mainClass, args...)
	select {
	case <-tool.Done():
	case <-ctx.Done():
		tool.Kill()
		return tool.Stdout(), fmt.Errorf("%s did not end within %v\n%s", mainClass, toolTimeout, tool.outputs())
	}
	if err := tool.Err(); err != nil {
		return tool.Stdout(), fmt.Errorf("%s: %w\n%s", mainClass, err, tool.outputs())
	}
	return tool.Stdout(), nil
}

// MustTool is [JavaTool] that fails the test on an error.
func MustTool(t testing.TB, stdin, mainClass string, args ...string) string {
	t.Helper()
	out, err := JavaTool(t, stdin, mainClass, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// RunningTool is a Java tool that is running. The end of the test kills it.
type RunningTool struct {
	*Process
	stdout, stderr Output
}

// StartTool starts a main class from the jars of Kafka 4.3.1, for a tool that runs while the test
// goes on (a console consumer). Standard input may be nil.
func StartTool(t testing.TB, stdin io.Reader, mainClass string, args ...string) *RunningTool {
	t.Helper()
	return StartToolOn(t, nil, stdin, mainClass, args...)
}

// StartToolOn is [StartTool] with flags for the JVM, which override the others.
func StartToolOn(t testing.TB, jvm []string, stdin io.Reader, mainClass string, args ...string) *RunningTool {
	t.Helper()
	Require(t)
	lib, err := jars(V431)
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := toolCommand(lib, t.TempDir(), slices.Concat(archive(lib, toolArchive), jvm), mainClass, args)
	if err != nil {
		t.Fatal(err)
	}
	tool := &RunningTool{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &tool.stdout, &tool.stderr
	cmd.WaitDelay = time.Second // do not wait for a standard input that never ends
	if tool.Process, err = StartProcess(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tool.Kill)
	return tool
}

func toolCommand(lib, dir string, flags []string, mainClass string, args []string) (*exec.Cmd, error) {
	logging := filepath.Join(dir, "log4j2.properties")
	if err := os.WriteFile(logging, []byte(toolLog4jConfig), 0o644); err != nil {
		return nil, fmt.Errorf("kafkatest: %w", err)
	}
	all := slices.Concat(fastJVM, flags,
		[]string{"-Xmx256m", "-Dlog4j2.configurationFile=" + logging, "-cp", filepath.Join(lib, "*"), mainClass}, args)
	return exec.Command("java", all...), nil
}

// Stdout returns what the tool has written to standard output so far.
func (r *RunningTool) Stdout() string { return r.stdout.String() }

// Stderr returns what the tool has written to standard error so far, its log included.
func (r *RunningTool) Stderr() string { return r.stderr.String() }

func (r *RunningTool) outputs() string {
	return fmt.Sprintf("stdout: %s\nstderr: %s", tail([]byte(r.Stdout()), 20), tail([]byte(r.Stderr()), 20))
}

// Output is a buffer for the output of a process. It can be read while the process writes.
type Output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends p.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// String is what was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

const toolLog4jConfig = `status=error
appender.err.type=Console
appender.err.name=err
appender.err.target=SYSTEM_ERR
appender.err.layout.type=PatternLayout
appender.err.layout.pattern=[%d] %p %m (%c)%n%ex{2}
rootLogger.level=warn
rootLogger.appenderRef.err.ref=err
`
