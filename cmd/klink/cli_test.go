package main

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/protocol/linkapi"
)

var rewrite = flag.Bool("rewrite", false, "rewrite docs/cli.md and the files in testdata")

func itoa(n int) string { return strconv.Itoa(n) }

// golden compares got with a file of testdata; -rewrite replaces the file.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *rewrite {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run go test ./cmd/klink -rewrite")
	require.Equal(t, string(want), got, "run go test ./cmd/klink -rewrite and look at the difference")
}

// docs/cli.md contains the help of every command.
func TestDocs(t *testing.T) {
	golden(t, "../../docs/cli.md", (&app{}).reference())
}

// Every command has a short text, and every flag a usage.
func TestHelpIsComplete(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		require.NotEmpty(t, cmd.Short, cmd.CommandPath())
		require.False(t, strings.HasSuffix(cmd.Short, "."), "%s: no full stop after a short text", cmd.CommandPath())
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk((&app{}).root())
}

// A command line that makes no sense ends with exit code 2 and a text on standard error, before
// klink asks any cluster.
func TestUsageErrors(t *testing.T) {
	w := &world{t: t, dir: t.TempDir()}
	for _, c := range []struct{ args, want string }{
		{"nonsense", `unknown command "nonsense"`},
		{"link nonsense", `unknown command "nonsense" for "klink link"`},
		{"topic mirror nonsense", `unknown command "nonsense"`},
		{"link list --nonsense", "unknown flag: --nonsense"},
		{"link list surplus", `unexpected argument "surplus"`},
		{"link list -o xml", `--output: unknown format "xml"; use table or json`},
		{"link list", "no cluster given: use --bootstrap-server"},
		{"link create", "missing argument NAME"},
		{"link create a b", `unexpected argument "b"`},
		{"link create a", "no source given for the link"},
		{"link create a --config x", "--config: want KEY=VALUE"},
		{"link create a --config =x", "--config: want KEY=VALUE"},
		{`link create a --config {"groupFilters":[],"topicFilters":[]}`, `--config: line 1, column 20: field "topicFilters" is not allowed here: give only one of aclFilters, groupFilters, topicFilters`},
		{"link update a --config {}", "--config: line 1, column 1: the object has no field; one of aclFilters, groupFilters, topicFilters must be given"},
		{`link update a --config {"filters":[]}`, `--config: line 1, column 2: field "filters" is not allowed`},
		{`link update a --config {"groupFilters":[`, "--config: line 1, column 18: the text ends"},
		{"link describe", "missing argument NAME"},
		{"link update a", "nothing to change"},
		{"link delete", "missing argument NAME"},
		{"link task list", "missing argument NAME"},
		{"link task list a b", `unexpected argument "b"`},
		{"link task nonsense", `unknown command "nonsense" for "klink link task"`},
		{"topic create", "missing argument TOPIC"},
		{"topic create t --mirror-topic t", "--mirror-topic needs --link"},
		{"topic create t --partitions 0", "--partitions: must be at least 1"},
		{"topic create t --partitions x", "invalid argument"},
		{"topic create t --replication-factor -1", "--replication-factor: must"},
		{"topic produce", "missing argument TOPIC"},
		{"topic produce t --parse-key --delimiter=", "--delimiter: must not be empty"},
		{"topic consume", "missing argument TOPIC"},
		{"topic consume t --offset 5", "--offset needs --partition"},
		{"topic consume t --partition 0 --offset 5 --from-beginning", "cannot be used together"},
		{"topic consume t --partition 0 --group g", "cannot be used together"},
		{"topic consume t --partition -1", "--partition: must"},
		{"topic consume t --offset -1 --partition 0", "--offset: must"},
		{"topic consume t --max-messages 0", "--max-messages: must"},
		{"topic consume t --timeout 0s", "--timeout: must"},
		{"topic consume t --timeout 5", "invalid argument"},
		{"topic mirror stop", "missing argument TOPIC"},
		{"mirror pause", "missing argument TOPIC"},
		{"mirror describe", "missing argument TOPIC"},
		{"context create", "missing argument NAME"},
		{"context create a", "no address given for the cluster"},
		{"context show", "no current context"},
		{"serve", "destination: must be set"},
		{"serve --destination a:1 --listen 0.0.0.0:1", "advertise: must be set"},
		{"serve --destination a:1 --replicator-memory 1MB", "replicator-memory"},
		{"bench mirror surplus", `unexpected argument "surplus"`},
		{"bench mirror --rounds 0", "--rounds: must be at least 1"},
		{"bench mirror --scale -1", "--scale: must be above 0"},
		{"bench mirror --workload huge", `--workload: unknown name "huge"`},
		{"bench mirror --subject rsync", `--subject: unknown name "rsync"`},
		{"bench nonsense", `unknown command "nonsense" for "klink bench"`},
		{"demo surplus", `unexpected argument "surplus"`},
	} {
		stdout, stderr, code := w.run("", strings.Fields(c.args)...)
		require.Equal(t, exitUsage, code, "klink %s: %s", c.args, stderr)
		require.Empty(t, stdout, c.args)
		require.True(t, strings.HasPrefix(stderr, "Error: "), "klink %s: %s", c.args, stderr)
		require.Contains(t, stderr, c.want, "klink %s", c.args)
		require.Contains(t, stderr, "--help' for usage.", c.args)
	}
}

func TestGroupsShowHelp(t *testing.T) {
	w := &world{t: t, dir: t.TempDir()}
	for _, args := range []string{"", "link", "topic", "mirror", "context", "topic mirror", "link task"} {
		require.Contains(t, w.must("", strings.Fields(args)...), "Available Commands:", args)
	}
	require.Contains(t, w.must("", "--version"), "klink version "+release)
	require.Contains(t, w.must("", "link", "create", "--help"), "Link configs:\n\n  bootstrap.servers (list, required)\n")
	require.NotContains(t, w.must("", "link", "update", "--help"), "Link configs:")
	require.Contains(t, w.must("", "completion", "bash"), "__start_klink")
}

// volatile matches what differs from run to run.
var volatile = []struct {
	pattern *regexp.Regexp
	text    string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`"\d{4}-\d\d-\d\dT[0-9:.]+Z"`), `"TIME"`},
	{regexp.MustCompile(`"timestamp":\d+`), `"timestamp":0`},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "HOST:PORT"},
	{regexp.MustCompile(`"id": "[A-Za-z0-9+/=_-]{22,24}"`), `"id": "TOPIC-ID"`},
}

func settled(s string) string {
	for _, v := range volatile {
		s = v.pattern.ReplaceAllString(s, v.text)
	}
	return s
}

// The JSON of every command matches testdata, on which programs rely.
func TestJSON(t *testing.T) {
	w := newWorld(t)
	w.mirror("orders", "one", "two")
	w.taskRan("east")
	w.commit(w.source, "billing", "orders", 1)
	for name, args := range map[string]string{
		"link_list": "link list", "link_describe": "link describe east", "link_task_list": "link task list east",
		"mirror_list": "mirror list", "mirror_describe": "mirror describe orders",
		"mirror_promote": "mirror promote --dry-run orders",
		"group_migrate":  "group migrate billing --link east --dry-run",
		"topic_list":     "topic list", "topic_describe": "topic describe orders",
		"context_list": "context list", "context_show": "context show src",
		"consume": "topic consume orders --from-beginning --max-messages 2",
	} {
		text := w.must("", append(strings.Fields(args), "-o", "json")...)
		for d := json.NewDecoder(strings.NewReader(text)); ; {
			var any any
			err := d.Decode(&any)
			if err == io.EOF {
				break
			}
			require.NoError(t, err, text)
		}
		golden(t, filepath.Join("testdata", name+".json"), settled(fewConfigs(t, text)))
	}
}

// fewConfigs keeps only some of the configs in a description: the command line does not promise
// which configs there are.
func fewConfigs(t *testing.T, text string) string {
	t.Helper()
	head, rest, ok := strings.Cut(text, "  \"configs\": {\n")
	if !ok {
		return text
	}
	var kept []string
	for line := range strings.Lines(rest) {
		key := strings.Split(line, "\"")
		if len(key) > 1 && slices.Contains([]string{"bootstrap.servers", "mirror.link", "mirror.source.topic", "mirror.state"}, key[1]) {
			kept = append(kept, strings.TrimRight(line, ",\n"))
		}
	}
	require.NotEmpty(t, kept)
	return head + "  \"configs\": {\n" + strings.Join(kept, ",\n") + "\n  }\n}\n"
}

func TestTables(t *testing.T) {
	w := newWorld(t)
	w.mirror("orders", "one", "two")
	w.taskRan("east")
	header := func(text string) []string {
		var columns []string
		for c := range strings.SplitSeq(strings.SplitN(text, "\n", 2)[0], "|") {
			columns = append(columns, strings.TrimSpace(c))
		}
		return columns
	}
	require.Equal(t, []string{
		"Link Name", "Mirror Topic Name", "Source Topic Name", "Mirror Status", "Status Time", "Num Partitions", "Max Per Partition Mirror Lag",
	}, header(w.must("", "mirror", "list")))
	require.Equal(t, []string{"Link Name", "State", "Error", "Source Cluster", "Mirror Topics"}, header(w.must("", "link", "list")))
	require.Equal(t, []string{"Task Name", "State", "Error", "Error Message", "Last Success", "Interval"}, header(w.must("", "link", "task", "list", "east")))
	require.Regexp(t, `(?m)^ TopicConfigsSync +\| ACTIVE +\| - +\| - +\| \d{4}-\S+Z +\| 5s$`, w.must("", "link", "task", "list", "east"))
	require.Contains(t, w.refused("", "link", "task", "list", "nosuch"), `link "nosuch"`)
	require.Equal(t, []string{"Name", "Partitions", "Replication Factor"}, header(w.must("", "topic", "list")))
	require.Regexp(t, `State +\| ACTIVE`, w.must("", "link", "describe", "east"))
	require.Regexp(t, `(?m)^ +0 \| 2 +\| 2 +\| 0 +\| \d{4}-`, w.must("", "mirror", "describe", "orders"))
	require.Regexp(t, `(?m)^ +0 \| 0 +\| 2 +\|`, w.must("", "topic", "describe", "orders"))
	require.NotContains(t, w.must("", "topic", "list"), "_klink_state")
	require.Contains(t, w.must("", "topic", "list", "--internal"), "_klink_state")
}

// The output shows what a task of a link could not do, and how a mirror differs from its source in
// configs that do not follow.
func TestTaskErrorsAndDrift(t *testing.T) {
	w := newWorld(t)
	w.must("", "link", "create", "dead", "--config", "bootstrap.servers=127.0.0.1:1", "--no-validate")
	w.eventually("the task of a link without a source is IN_ERROR", func() bool {
		return strings.Contains(w.must("", "link", "task", "list", "dead"), "IN_ERROR")
	})
	require.Regexp(t, `(?m)^ TopicConfigsSync +\| IN_ERROR +\| BOOTSTRAP_TCP_CONNECTION_FAILED_ERROR \| source 127\.0\.0\.1:1 of link "dead": could not connect: .* \| - +\| 5s$`,
		w.must("", "link", "task", "list", "dead"))

	w.mirror("orders", "one")
	w.must("", "link", "update", "east", "--config", "topic.config.sync.ms=100")
	require.NotContains(t, w.must("", "mirror", "describe", "orders"), "are not copied")
	require.NoError(t, alterConfig(t, w.source, "orders", "min.insync.replicas", "2"))
	w.eventually("the drift is shown", func() bool { return strings.Contains(w.must("", "mirror", "describe", "orders"), "are not copied") })
	require.Regexp(t, `\nConfigs that differ from the source and are not copied from it:\n Config +\| Source Value +\| Mirror Value *\n[-+]+\n min\.insync\.replicas +\| 2 +\| 1 *\n`,
		w.must("", "mirror", "describe", "orders"))
	require.Contains(t, strings.Join(strings.Fields(w.must("", "mirror", "describe", "orders", "-o", "json")), " "),
		`"config_drift": [ { "name": "min.insync.replicas", "source_value": "2", "mirror_value": "1" } ]`)

	// A client may alter a config that does not follow, until it does follow.
	require.NoError(t, alterConfig(t, w.klink, "orders", "min.insync.replicas", "1"))
	w.must("", "link", "update", "east", "--config", "topic.config.sync.include=min.insync.replicas")
	w.eventually("what follows from now on is the source's", func() bool {
		return strings.Contains(w.must("", "topic", "describe", "orders", "-o", "json"), `"min.insync.replicas": "2"`)
	})
	require.NotContains(t, w.must("", "mirror", "describe", "orders"), "are not copied")
	require.ErrorIs(t, alterConfig(t, w.klink, "orders", "min.insync.replicas", "1"), kerr.InvalidRequest)

	w.must("", "link", "update", "east", "--config", "cluster.link.paused=true")
	require.Regexp(t, `TopicConfigsSync +\| PAUSED`, w.must("", "link", "task", "list", "east"))
	require.Contains(t, w.must("", "__complete", "link", "task", "list", ""), "east\n")
}

// Link and mirror commands say so if the address is a broker's.
func TestNotKlink(t *testing.T) {
	w := newWorld(t)
	for _, args := range []string{"link list", "link task list x", "link create x --config-file source.config", "mirror list", "mirror pause t", "topic mirror stop t", "topic create t --link l"} {
		stderr := w.refused("", append(strings.Fields(args), "--cluster", "src")...)
		require.Contains(t, stderr, "Error: "+w.source+" is a Kafka broker, not klink", args)
	}
	require.Contains(t, w.refused("", "link", "list", "--bootstrap-server", "127.0.0.1:1"), "127.0.0.1:1: ")
}

// The error for a klink older than the command line differs from the error for a broker.
func TestOlderKlink(t *testing.T) {
	w := newWorld(t)
	older, err := embeddedCluster("older")
	require.NoError(t, err)
	t.Cleanup(older.Close)
	older.ControlKey(int16(kmsg.ApiVersions), func(req kmsg.Request) (kmsg.Response, error, bool) {
		older.KeepControl()
		resp := req.ResponseKind().(*kmsg.ApiVersionsResponse)
		for _, key := range []int16{int16(kmsg.ApiVersions), int16(kmsg.Metadata), linkapi.KeyListLinks} {
			k := kmsg.NewApiVersionsResponseApiKey()
			k.ApiKey, k.MaxVersion = key, 3
			resp.ApiKeys = append(resp.ApiKeys, k)
		}
		return resp, nil, true
	})
	address := older.ListenAddrs()[0]
	require.Contains(t, w.refused("", "link", "task", "list", "x", "--bootstrap-server", address),
		"Error: the klink at "+address+" is older than this command line and does not know ListLinkTasks: upgrade it first")
}

func TestLinkLife(t *testing.T) {
	w := newWorld(t)
	require.Equal(t, "The configs of cluster link \"east\" are valid. klink has not connected to the source: add --connect for that.\n", w.must("", "link", "create", "east", "--config-file", "source.config", "--dry-run"))
	require.Equal(t, "Cluster link \"east\" can be created.\n", w.must("", "link", "create", "east", "--config-file", "source.config", "--dry-run", "--connect"))
	require.Contains(t, w.refused("", "link", "create", "dead", "--config", "bootstrap.servers=127.0.0.1:1", "--dry-run", "--connect"), "127.0.0.1:1")
	require.NotContains(t, w.must("", "link", "list"), "east")
	require.Equal(t, "Created cluster link \"east\".\n", w.must("", "link", "create", "east", "--config-file", "source.config"))
	require.Contains(t, w.refused("", "link", "create", "east", "--config-file", "source.config"), "east")
	require.Contains(t, w.refused("", "link", "create", "bad", "--config-file", "source.config", "--config", "no.such.key=1"), "no.such.key")
	require.Contains(t, w.refused("", "link", "create", "dead", "--config", "bootstrap.servers=127.0.0.1:1"), "127.0.0.1:1")
	w.must("", "link", "create", "dead", "--config", "bootstrap.servers=127.0.0.1:1", "--no-validate")

	w.must("", "link", "update", "east", "--config", "metadata.max.age.ms=4321")
	require.Regexp(t, `metadata\.max\.age\.ms +\| 4321 +\| yes`, w.must("", "link", "describe", "east"))
	w.must("", "link", "update", "east", "--delete-config", "metadata.max.age.ms")
	require.Regexp(t, `metadata\.max\.age\.ms +\| 10000 +\| default`, w.must("", "link", "describe", "east"))
	require.Contains(t, w.refused("", "link", "update", "east", "--config", "security.protocol=NONE"), "security.protocol")
	require.Contains(t, w.refused("", "link", "describe", "nosuch"), "nosuch")

	// Filters as bare JSON; and the same over a file that has them under another name.
	const orders, none = `{"topicFilters":[{"name":"orders","patternType":"LITERAL","filterType":"INCLUDE"}]}`, `{"topicFilters":[]}`
	w.must("", "link", "update", "east", "--config", " "+orders)
	require.Regexp(t, `auto\.create\.mirror\.topics\.filters +\| `+regexp.QuoteMeta(orders)+` +\| yes`, w.must("", "link", "describe", "east"))
	w.file("filters.config", "auto.create.mirror.topics.filters.json="+orders+"\nclient.id=me\n")
	w.must("", "link", "update", "east", "--config-file", "filters.config", "--config", none)
	require.Regexp(t, `auto\.create\.mirror\.topics\.filters +\| `+regexp.QuoteMeta(none)+` +\| yes`, w.must("", "link", "describe", "east"))
	require.Contains(t, w.refused("", "link", "update", "east", "--config", `{"topicFilters":[{}]}`), `line 1, column 18: a filter must have the field "name"`)
	require.Contains(t, w.refused("", "link", "update", "east", "--config", none, "--config", "auto.create.mirror.topics.filters.json="+none), "is given twice")
	w.must("", "link", "update", "east", "--delete-config", "auto.create.mirror.topics.filters.json")
	require.NotContains(t, w.must("", "link", "describe", "east"), "topicFilters")

	w.mirror("orders", "one")
	require.Contains(t, w.refused("", "link", "delete", "east"), "orders")
	require.Equal(t, "Deleted cluster link \"east\".\n", w.must("", "link", "delete", "east", "--force"))
	require.NotContains(t, w.must("", "link", "list"), "east")
	w.must("after", "topic", "produce", "orders")
}

// Neither describe nor errors show secrets.
func TestSecretsStayHidden(t *testing.T) {
	w := newWorld(t)
	w.file("sasl.config", "bootstrap.servers="+w.source+"\nsecurity.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n"+
		`sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="S3CRET";`+"\n")
	stdout, stderr, code := w.run("", "link", "create", "east", "--config-file", "sasl.config", "--no-validate")
	require.Equal(t, exitError, code)
	require.Contains(t, stderr, "--secrets-key-file")
	require.Contains(t, stderr, "--allow-plaintext-secrets")
	require.NotContains(t, stdout+stderr, "S3CRET")

	w.must("", "context", "create", "sasl", "--command-config", "sasl.config")
	shown := w.must("", "context", "show", "sasl") + w.must("", "context", "show", "sasl", "-o", "json") + w.must("", "context", "list")
	require.Contains(t, shown, "[hidden]")
	require.NotContains(t, shown, "S3CRET")
}

func TestTopicLife(t *testing.T) {
	w := newWorld(t)
	require.Equal(t, "Created topic \"plain\".\n", w.must("", "topic", "create", "plain", "--partitions", "2", "--replication-factor", "1", "--config", "retention.ms=1000000"))
	described := w.must("", "topic", "describe", "plain")
	require.Regexp(t, `(?m)^ +1 \| 0 +\| 0 `, described)
	require.Regexp(t, `retention\.ms +\| 1000000`, described)
	require.Contains(t, w.refused("", "topic", "create", "plain"), "plain")
	require.Equal(t, "Topic \"other\" can be created.\n", w.must("", "topic", "create", "other", "--dry-run"))
	require.Contains(t, w.refused("", "topic", "describe", "other"), `topic "other" does not exist at `+w.klink)
	require.Contains(t, w.refused("x", "topic", "produce", "other"), `topic "other" does not exist`)
	require.Contains(t, w.refused("", "topic", "consume", "other"), `topic "other" does not exist`)
	require.Contains(t, w.refused("", "topic", "create", "other", "--link", "nosuch", "--mirror-topic", "other"), "nosuch")
	require.Equal(t, "Deleted topic \"plain\".\n", w.must("", "topic", "delete", "plain"))
	require.Contains(t, w.refused("", "topic", "delete", "plain"), "plain")
}

func TestProduceAndConsume(t *testing.T) {
	w := newWorld(t)
	w.must("", "topic", "create", "t", "--partitions", "1")
	w.must("a:1\r\nb:2:3\n:4\n", "topic", "produce", "t", "--parse-key")
	w.must("k=>v\n", "topic", "produce", "t", "--parse-key", "--delimiter", "=>")
	require.Contains(t, w.refused("no delimiter", "topic", "produce", "t", "--parse-key"), `line 1 has no delimiter ":"`)
	w.must("", "topic", "produce", "t")

	all := []string{"topic", "consume", "t", "--timeout", "500ms"}
	require.Equal(t, "1\n2:3\n4\nv\n", w.must("", append(all, "--from-beginning")...))
	require.Equal(t, "a\t1\nb\t2:3\n\t4\nk\tv\n", w.must("", append(all, "--from-beginning", "--print-key")...))
	require.Regexp(t, `^CreateTime:\d{13}\tPartition:0\tOffset:2\t\t4\n$`,
		w.must("", "topic", "consume", "t", "--partition", "0", "--offset", "2", "--max-messages", "1", "--print-key", "--print-offset", "--print-partition", "--print-timestamp"))
	require.Equal(t, "", w.must("", all...), "without --from-beginning only what comes from now on is shown")
	require.Contains(t, w.refused("", "topic", "consume", "t", "--partition", "7"), `topic "t" has no partition 7`)
	require.Contains(t, w.refused("", "topic", "consume", "t", "--partition", "0", "--offset", "100"), "OFFSET_OUT_OF_RANGE")
}

// A group gets each record once: exactly the offsets of printed records are committed.
func TestConsumeWithGroup(t *testing.T) {
	w := newWorld(t)
	w.must("", "topic", "create", "t", "--partitions", "1")
	w.must("1\n2\n3\n4\n5\n", "topic", "produce", "t")
	group := []string{"topic", "consume", "t", "--group", "g", "--from-beginning"}
	require.Equal(t, "1\n2\n", w.must("", append(group, "--max-messages", "2")...))
	require.Equal(t, "3\n4\n5\n", w.must("", append(group, "--max-messages", "3")...))
	w.must("6\n", "topic", "produce", "t")
	require.Equal(t, "6\n", w.must("", append(group, "--max-messages", "1")...))
}

// ^C ends a live tail with exit code 0. It shows every record written after the line "Waiting for".
func TestConsumeLive(t *testing.T) {
	w := newWorld(t)
	w.must("", "topic", "create", "t", "--partitions", "3")
	w.must("before", "topic", "produce", "t")
	ctx, interrupt := context.WithCancel(context.Background())
	defer interrupt()
	out, shown := io.Pipe()
	waiting, says := io.Pipe()
	code := make(chan int, 1)
	go func() {
		a := &app{in: strings.NewReader(""), out: shown, err: says, configDir: w.dir}
		code <- a.run(ctx, []string{"topic", "consume", "t"})
	}()
	line := make([]byte, 100)
	n, err := waiting.Read(line)
	require.NoError(t, err)
	require.Equal(t, "Waiting for records of topic \"t\"; end with ^C.\n", string(line[:n]))
	w.must("after", "topic", "produce", "t")
	n, err = out.Read(line)
	require.NoError(t, err)
	require.Equal(t, "after\n", string(line[:n]))
	interrupt()
	require.Equal(t, exitOK, <-code)
}

// A refused record ends the command at once with klink's own message, although the input stays
// open.
func TestProduceToMirror(t *testing.T) {
	w := newWorld(t)
	w.mirror("orders", "one")
	in, typed := io.Pipe()
	go typed.Write([]byte("mine\n"))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	stdout, stderr, code := w.runContext(ctx, in, "topic", "produce", "orders")
	typed.Close()
	require.Equal(t, exitError, code)
	require.Empty(t, stdout)
	require.Equal(t, "Error: Cannot append records to read-only mirror topic 'orders' (INVALID_REQUEST)\n", stderr)
}

// ^C ends the input: lines typed before it are written.
func TestProduceInterrupted(t *testing.T) {
	w := newWorld(t)
	w.must("", "topic", "create", "t", "--partitions", "1")
	ctx, interrupt := context.WithCancel(context.Background())
	defer interrupt()
	in, typed := io.Pipe()
	defer typed.Close()
	code := make(chan int, 1)
	go func() {
		_, _, c := w.runContext(ctx, in, "topic", "produce", "t")
		code <- c
	}()
	_, err := typed.Write([]byte("typed\n"))
	require.NoError(t, err)
	require.Equal(t, "typed\n", w.must("", "topic", "consume", "t", "--from-beginning", "--max-messages", "1"))
	interrupt()
	require.Equal(t, exitOK, <-code)

	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	_, stderr, c := w.runContext(cancelled, strings.NewReader(""), "link", "list")
	require.Equal(t, exitError, c)
	require.Equal(t, "Error: interrupted\n", stderr)
}

func TestMirrorLife(t *testing.T) {
	w := newWorld(t)
	w.mirror("orders", "one")
	require.Equal(t, "Paused mirroring for topic \"orders\".\n", w.must("", "mirror", "pause", "orders"))
	require.Contains(t, w.must("", "mirror", "list"), "PAUSED")
	w.must("two", "topic", "produce", "orders", "--cluster", "src")
	require.Equal(t, "Resumed mirroring for topic \"orders\".\n", w.must("", "mirror", "resume", "orders"))
	require.Equal(t, "one\ntwo\n", w.must("", "topic", "consume", "orders", "--from-beginning", "--max-messages", "2"))

	stdout, stderr, code := w.run("", "topic", "mirror", "stop", "orders", "nosuch")
	require.Equal(t, exitError, code)
	require.Equal(t, "Stopped mirroring for topic \"orders\".\n", stdout)
	require.Contains(t, stderr, "nosuch")
	require.Equal(t, "Stopped mirroring for topic \"orders\".\n", w.must("", "mirror", "failover", "orders"), "stopping twice is no error")
	w.must("three", "topic", "produce", "orders")
	require.Equal(t, "one\ntwo\nthree\n", w.must("", "topic", "consume", "orders", "--from-beginning", "--max-messages", "3"))
	require.Contains(t, w.must("", "mirror", "list"), "STOPPED")

	w.must("", "topic", "delete", "orders")
	require.NotContains(t, w.must("", "mirror", "list"), "orders")
	w.must("", "topic", "create", "orders", "--link", "east", "--mirror-topic", "orders")
	require.Equal(t, "one\ntwo\n", w.must("", "topic", "consume", "orders", "--from-beginning", "--max-messages", "2"))
	require.Contains(t, w.refused("", "topic", "create", "orderz", "--link", "east", "--mirror-topic", "orders"), "orders")
}

func TestContexts(t *testing.T) {
	w := &world{t: t, dir: t.TempDir()}
	require.Equal(t, "Created context \"a\".\n", w.must("", "context", "create", "a", "--bootstrap-server", "127.0.0.1:1", "--config", "ssl.ca.location=ca.pem"))
	info, err := os.Stat(filepath.Join(w.dir, "contexts.yaml"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	w.must("", "context", "create", "b", "--bootstrap-server", "127.0.0.1:2")
	require.Regexp(t, `(?m)^ \* +\| a +\| 127.0.0.1:1$`, w.must("", "context", "list"))
	w.must("", "context", "use", "b")
	require.Regexp(t, `(?m)^ \* +\| b +\| 127.0.0.1:2$`, w.must("", "context", "list"))
	wd, err := os.Getwd()
	require.NoError(t, err)
	require.Contains(t, w.must("", "context", "show", "a"), filepath.Join(wd, "ca.pem"), "a context is used from any directory")
	require.Contains(t, w.refused("", "context", "use", "c"), `unknown context "c"`)
	require.Contains(t, w.refused("", "topic", "list", "--cluster", "c"), `unknown context "c"`)
	require.Contains(t, w.refused("", "context", "create", "d", "--bootstrap-server", "x"), `"x" is not HOST:PORT`)
	require.Contains(t, w.refused("", "topic", "list", "--cluster", "a", "--command-config", "missing.config"), "missing.config")
	require.Equal(t, "Deleted context \"b\".\n", w.must("", "context", "delete", "b"))
	require.Contains(t, w.refused("", "context", "delete", "b"), `unknown context "b"`)
	w.file("contexts.yaml", "contexts: [")
	require.Contains(t, w.refused("", "context", "list"), "contexts.yaml is damaged")
}

// --bootstrap-server does not use the properties of the current context.
func TestWhichCluster(t *testing.T) {
	w := &world{t: t, dir: t.TempDir()}
	w.must("", "context", "create", "a", "--bootstrap-server", "127.0.0.1:1", "--config", "client.id=a")
	file := w.file("extra.config", "client.id=file\n")
	for _, c := range []struct {
		a    app
		want map[string]string
	}{
		{app{}, map[string]string{"bootstrap.servers": "127.0.0.1:1", "client.id": "a"}},
		{app{bootstrap: "h:2"}, map[string]string{"bootstrap.servers": "h:2"}},
		{app{bootstrap: "h:2", cluster: "a"}, map[string]string{"bootstrap.servers": "h:2", "client.id": "a"}},
		{app{commandConfig: file}, map[string]string{"bootstrap.servers": "127.0.0.1:1", "client.id": "file"}},
		{app{commandConfig: file, bootstrap: "h:2"}, map[string]string{"bootstrap.servers": "h:2", "client.id": "file"}},
	} {
		c.a.configDir = w.dir
		p, err := c.a.properties()
		require.NoError(t, err)
		require.Equal(t, c.want, map[string]string(p))
	}
}

// TestReleaseIsInTheChangelog: a release has a section that says what to do on upgrade.
func TestReleaseIsInTheChangelog(t *testing.T) {
	text, err := os.ReadFile("../../CHANGELOG.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## "+release+" - ")
	require.True(t, found, "CHANGELOG.md has no section for %s", release)
	section, _, _ = strings.Cut(section, "\n## ")
	require.Contains(t, section, "### On upgrade")
}
