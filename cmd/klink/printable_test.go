package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/internal/config"
)

// hostile is text that commands a terminal: a title (OSC), clear screen in its 7-bit and 8-bit
// forms (C1), a line that overwrites itself, text that reads backwards.
const hostile = "\x1b]0;owned\x07\x1b[2J\u009b2Jrm -rf\rls\u202etxt.exe\u2066\x7f\u2028\U000e0041"

// harmless requires that text has no character that commands a terminal.
func harmless(t testing.TB, text string) {
	t.Helper()
	for _, r := range text {
		require.False(t, commands(r), "%q in %q", r, text)
	}
}

func TestPrintable(t *testing.T) {
	require.Equal(t, "a\tb\n"+`\u001b[0m \u009b \u202e \udb40\udc41`, string(appendPrintable(nil, []byte("a\tb\n\x1b[0m \u009b \u202e \U000e0041"))))
	require.Equal(t, "żółć 日本 😀 ✓", string(appendPrintable(nil, []byte("żółć 日本 😀 ✓"))))
	require.Equal(t, `a\xffb\x9b2J`, string(appendPrintable(nil, []byte("a\xffb\x9b2J"))))
	harmless(t, string(appendPrintable(nil, []byte(hostile))))
	require.Equal(t, `a\nb\tc`, oneLine("a\nb\tc"))

	// Wherever the text is cut into writes, the output is the same.
	text := []byte("😀é\u009b" + hostile + "\xf0\x9f")
	want := string(appendPrintable(nil, text))
	for at := range text {
		var out bytes.Buffer
		p := &printable{to: &out}
		for _, part := range [][]byte{text[:at], text[at:]} {
			n, err := p.Write(part)
			require.NoError(t, err)
			require.Equal(t, len(part), n)
		}
		p.flush()
		require.Equal(t, want, out.String(), "cut at %d", at)
	}

	// JSON stays the same JSON.
	encoded, err := json.Marshal(hostile)
	require.NoError(t, err)
	shown := appendPrintable(nil, encoded)
	harmless(t, string(shown))
	var decoded string
	require.NoError(t, json.Unmarshal(shown, &decoded))
	require.Equal(t, hostile, decoded)
}

// TestHostileClusterCommandsNoTerminal: output from a cluster is shown, and never acts on the
// terminal.
func TestHostileClusterCommandsNoTerminal(t *testing.T) {
	w := newWorld(t)
	source, err := embeddedCluster("source")
	require.NoError(t, err)
	t.Cleanup(source.Close)
	_, portText, _ := strings.Cut(source.ListenAddrs()[0], ":")
	port, err := strconv.Atoi(portText)
	require.NoError(t, err)
	name := "orders" + hostile
	source.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		source.KeepControl()
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		b := kmsg.NewMetadataResponseBroker()
		b.Host, b.Port = "127.0.0.1", int32(port)
		resp.Brokers, resp.ControllerID = append(resp.Brokers, b), b.NodeID
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic = &name
		topic.Partitions = append(topic.Partitions, kmsg.NewMetadataResponseTopicPartition())
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	source.ControlKey(int16(kmsg.CreateTopics), func(req kmsg.Request) (kmsg.Response, error, bool) {
		source.KeepControl()
		resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
		topic := kmsg.NewCreateTopicsResponseTopic()
		topic.Topic, topic.ErrorCode, topic.ErrorMessage = "t", 44, kmsg.StringPtr("no:"+hostile)
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	at := source.ListenAddrs()[0]
	for _, format := range []string{"table", "json"} {
		stdout, stderr, _ := w.run("", "topic", "list", "--bootstrap-server", at, "-o", format)
		require.Contains(t, stdout, `orders\u001b`, stderr)
		harmless(t, stdout+stderr)
		stdout, stderr, _ = w.run("", "topic", "create", "t", "--bootstrap-server", at, "-o", format)
		require.Contains(t, stderr, `no:\u001b`)
		harmless(t, stdout+stderr)
	}
}

// TestConsumeOnATerminal: records go unchanged to a file or a pipe, and harmlessly to a terminal.
func TestConsumeOnATerminal(t *testing.T) {
	w := newWorld(t)
	w.must("", "topic", "create", "t", "--partitions", "1", "--cluster", "direct")
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.destination))
	require.NoError(t, err)
	defer cl.Close()
	value := hostile + "\xff"
	require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Key: []byte("k" + hostile), Value: []byte(value)}).FirstErr())
	args := []string{"topic", "consume", "t", "--from-beginning", "--max-messages", "1", "--print-key"}
	require.Equal(t, "k"+hostile+"\t"+value+"\n", w.must("", args...))
	harmless(t, w.must("", append(args, "-o", "json")...))

	master, slave := openTerminal(t)
	a := &app{in: strings.NewReader(""), out: slave, err: slave, configDir: w.dir}
	require.True(t, terminal(slave))
	shown := make(chan string)
	go func() {
		var text []byte
		for buf := make([]byte, 4096); !bytes.Contains(text, []byte("\n")); {
			n, err := master.Read(buf)
			text = append(text, buf[:n]...)
			if err != nil {
				break
			}
		}
		shown <- string(text)
	}()
	require.Equal(t, exitOK, a.run(t.Context(), args))
	text := strings.ReplaceAll(<-shown, "\r\n", "\n") // the terminal's own line ends
	harmless(t, text)
	require.Contains(t, text, `k\u001b]0;owned\u0007`)
	require.Contains(t, text, `\xff`)
}

// No command bypasses the writers that make text printable.
func TestNothingWritesPastPrintable(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	past := regexp.MustCompile(`os\.Std(out|err)|fmt\.Print|\bprintln\(|a\.std(out|err)\b`)
	allowed := map[string]int{"main.go": 2, "app.go": 2, "topic_consume.go": 2, "bench_load.go": 1, "mirror_end.go": 1}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Len(t, past.FindAll(text, -1), allowed[file], "%s writes to the terminal itself", file)
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add([]byte(hostile), 3)
	f.Fuzz(func(t *testing.T, text []byte, at int) {
		var out bytes.Buffer
		p := &printable{to: &out}
		at = min(max(at, 0), len(text))
		_, _ = p.Write(text[:at])
		_, _ = p.Write(text[at:])
		p.flush()
		harmless(t, out.String())
		require.Equal(t, string(appendPrintable(nil, text)), out.String())
	})
}

// Foreign text cannot add a line to a log, nor command a terminal that shows it.
func TestLogInjection(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		p := &printable{to: &out}
		log := newLogger(&config.Serve{LogFormat: format}, p)
		log.Warn("a"+hostile+"\nlevel=ERROR msg=forged", "link\nx", "b"+hostile+"\nlevel=ERROR", "error", errors.New("c\r\n"+hostile))
		harmless(t, out.String())
		require.Equal(t, 1, strings.Count(out.String(), "\n"), out.String())
	}
}
