package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Pages of docs/ that tests run on two real clusters, with the command line only. Each fenced block
// says in its first line what it is:
//
//	console          commands after "$ ", each with what it prints (both streams; "Error: " means
//	                 exit code 1)
//	console until    the same, repeated until they print just that: what klink does by itself takes
//	                 a moment
//	console serve    how klink is started; the harness does it
//	console live     a command that keeps running in a second terminal
//	live             what the second terminal shows by now
//	properties NAME  the content of a file
//	json NAME        likewise
//
// In what a command prints, ID, TIME and "..." stand for what differs, and runs of spaces and
// dashes for any number. Comments:
//
//	<!-- test: the source is lost -->                       ends the source's brokers
//	<!-- test: wait for group G at 2 of topic T -->         until klink has carried that offset over
type page struct {
	t                   *testing.T
	dir                 string // of files and contexts
	source, destination *kafkatest.Cluster
	klink               *Klink
	live                *Command // the second terminal
}

func newPage(t *testing.T) *page {
	return &page{t: t, dir: t.TempDir(), source: kafkatest.Start(t), destination: kafkatest.Start(t)}
}

func readPage(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var blocks = regexp.MustCompile("(?ms)^```([a-z]+)( ?[^\n]*)\n(.*?)^```$|^<!-- test: ([^\n]*) -->$")

// run runs a page, or a part of one, and returns how many commands that were.
func (r *page) run(text string) (ran int) {
	for _, m := range blocks.FindAllStringSubmatch(text, -1) {
		kind, argument, body := m[1], strings.TrimSpace(m[2]), m[3]
		switch {
		case m[4] == "the source is lost":
			r.loseSource()
		case waitsForGroup.MatchString(m[4]):
			r.waitForGroup(waitsForGroup.FindStringSubmatch(m[4]))
		case m[4] != "":
			r.t.Fatalf("the page asks for what the test cannot do: %s", m[4])
		case kind == "console" && argument == "serve":
			r.klink = StartKlink(r.t, r.destination)
		case kind == "console" && argument == "live":
			r.start(body)
		case kind == "console":
			ran += r.console(body, argument == "until")
		case kind == "live":
			r.shows(body)
		case (kind == "properties" || kind == "json") && argument != "":
			if err := os.WriteFile(filepath.Join(r.dir, argument), []byte(r.addresses(body)), 0o600); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	return ran
}

// loseSource kills every broker of the source.
func (r *page) loseSource() {
	for _, b := range r.source.Brokers() {
		b.Kill()
	}
}

var waitsForGroup = regexp.MustCompile(`^wait for group (\S+) at (\d+) of topic (\S+)$`)

// waitForGroup waits until a group has an offset of partition 0 of a topic at klink.
func (r *page) waitForGroup(of []string) {
	adm := kadm.NewClient(kafkatest.NewClient(r.t, kgo.SeedBrokers(r.klink.Bootstrap())))
	kafkatest.WaitFor(r.t, time.Minute, "the offset of the group", func() (bool, string) {
		offsets, err := adm.FetchOffsets(r.t.Context(), of[1])
		o, ok := offsets.Lookup(of[3], 0)
		return ok && strconv.FormatInt(o.At, 10) == of[2], fmt.Sprintf("%+v %v", o, err)
	})
}

// end stops klink.
func (r *page) end() {
	if code := r.klink.Terminate(r.t); code != 0 {
		r.t.Errorf("klink ended with %d after SIGTERM", code)
	}
}

func TestTutorial(t *testing.T) {
	t.Parallel()
	r := newPage(t)
	if ran := r.run(readPage(t, "tutorial.md")); ran < 25 {
		t.Errorf("only %d commands found in the tutorial: has its form changed?", ran)
	}
	r.end()
}

// TestRunbooks runs each runbook of docs/operations.md, on clusters of its own.
func TestRunbooks(t *testing.T) {
	books := strings.Split(readPage(t, "operations.md"), "\n## Runbook: ")[1:]
	if len(books) < 2 {
		t.Fatalf("%d runbooks found in docs/operations.md", len(books))
	}
	for _, book := range books {
		title, text, _ := strings.Cut(book, "\n")
		text, _, _ = strings.Cut(text, "\n## ")
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := newPage(t)
			r.klink = StartKlink(t, r.destination)
			r.console("$ klink context create src --bootstrap-server source.example:9092\n...\n"+
				"$ klink context create dst --bootstrap-server klink.example:19092\n...\n$ klink context use dst\n...\n", false)
			if ran := r.run(text); ran < 8 {
				t.Errorf("only %d commands found: has the form of the page changed?", ran)
			}
			r.end()
		})
	}
}

// addresses puts the real ones in the place of the page's.
func (r *page) addresses(s string) string {
	klink := "127.0.0.1:1"
	if r.klink != nil {
		klink = r.klink.Bootstrap()
	}
	return strings.NewReplacer("source.example:9092", r.source.Bootstrap(), "klink.example:19092", klink).Replace(s)
}

var piped = regexp.MustCompile(`^printf '(.*)' \| (.*)$`)

// command takes a line apart: what is typed into the command, and its arguments. None of them has
// spaces.
func (r *page) command(line string) (stdin string, args []string) {
	line = strings.TrimPrefix(r.addresses(line), "$ ")
	if m := piped.FindStringSubmatch(line); m != nil {
		stdin, line = strings.ReplaceAll(m[1], `\n`, "\n"), m[2]
	}
	args = strings.Fields(line)
	if len(args) == 0 || args[0] != "klink" {
		r.t.Fatalf("not a klink command: %q", line)
	}
	for i, arg := range args {
		if strings.HasSuffix(arg, ".config") {
			args[i] = filepath.Join(r.dir, arg)
		}
	}
	return stdin, args[1:]
}

// console runs the commands of a block and compares what they print; it returns how many there
// were.
func (r *page) console(body string, until bool) (n int) {
	r.t.Helper()
	for block := range strings.SplitSeq("\n"+body, "\n$ ") {
		line, want, _ := strings.Cut(block, "\n")
		if strings.TrimSpace(block) == "" {
			continue
		}
		n++
		if until {
			kafkatest.WaitFor(r.t, time.Minute, "the command to print what the page says", func() (bool, string) {
				problem := r.try(line, want)
				return problem == "", problem
			})
			continue
		}
		if problem := r.try(line, want); problem != "" {
			r.t.Fatal(problem)
		}
	}
	return n
}

// try runs a command, and says how it was not as the page has it.
func (r *page) try(line, want string) (problem string) {
	stdin, args := r.command(line)
	code := 0
	if strings.HasPrefix(want, "Error: ") {
		code = 1
	}
	stdout, stderr, got := RunCommand(r.t, r.dir, stdin, args...)
	if got != code {
		return fmt.Sprintf("$ %s\nexit code %d instead of %d\n%s%s", line, got, code, stdout, stderr)
	}
	// What tells a person to wait is not part of the page.
	stderr = regexp.MustCompile(`(?m)^Waiting for records of .*\n`).ReplaceAllString(stderr, "")
	if !same(want, stdout+stderr) {
		return fmt.Sprintf("$ %s\nprints\n%s%s\nand not, as the page says,\n%s", line, stdout, stderr, want)
	}
	return ""
}

// same compares printed text with that of the page.
func same(want, got string) bool {
	lines := func(s string) []string {
		s = strings.TrimRight(s, "\n")
		s = regexp.MustCompile(`-{2,}`).ReplaceAllString(s, "-")
		s = regexp.MustCompile(` +`).ReplaceAllString(s, " ")
		return strings.Split(s, "\n")
	}
	w, g := lines(want), lines(got)
	if len(w) != len(g) {
		return false
	}
	for i := range w {
		pattern := regexp.QuoteMeta(w[i])
		pattern = regexp.MustCompile(`\bTIME\b`).ReplaceAllString(pattern, `[0-9T:.Z-]+`)
		pattern = regexp.MustCompile(`\bID\b`).ReplaceAllString(pattern, `[A-Za-z0-9_-]{22}`)
		pattern = strings.ReplaceAll(pattern, `\.\.\.`, `.+`)
		if ok, err := regexp.MatchString("^"+pattern+"$", g[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

// start runs the command of the second terminal and waits until it has said what the page shows.
func (r *page) start(body string) {
	r.t.Helper()
	line, want, _ := strings.Cut(body, "\n")
	_, args := r.command(line)
	r.live = StartCommand(r.t, r.dir, nil, args...)
	kafkatest.WaitFor(r.t, time.Minute, "the second terminal to say: "+want, func() (bool, string) {
		return strings.TrimSpace(r.live.Stderr()) == strings.TrimSpace(want), r.live.Stderr()
	})
}

// shows waits until the second terminal has shown exactly these lines, and ends its command with
// ^C.
func (r *page) shows(want string) {
	r.t.Helper()
	kafkatest.WaitFor(r.t, time.Minute, fmt.Sprintf("the second terminal to show %q", want), func() (bool, string) {
		return r.live.Stdout() == want, r.live.Stdout() + r.live.Stderr()
	})
	code, err := r.live.Terminate(exitTimeout)
	if err != nil || code != 0 {
		r.t.Fatalf("the consumer of the second terminal ended with %d, %v\n%s", code, err, r.live.Stderr())
	}
}
