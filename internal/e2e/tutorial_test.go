package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"
)

// TestTutorial runs docs/tutorial.md on two real clusters, with the command line only. Each fenced block says in its
// first line what it is:
//
//	console          commands after "$ ", each with what it prints (both streams; "Error: " means exit code 1)
//	console serve    how klink is started; the harness does it
//	console live     a command that keeps running in a second terminal
//	live             what the second terminal shows by now
//	properties NAME  the content of a file
//
// In what a command prints, ID, TIME and "..." stand for what differs, and runs of spaces and dashes for any number.
func TestTutorial(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t)
	text, err := os.ReadFile("../../docs/tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	r := &tutorial{t: t, dir: t.TempDir(), source: source, destination: destination}
	ran := 0
	for _, m := range regexp.MustCompile("(?ms)^```([a-z]+)( ?[^\n]*)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		kind, argument, body := m[1], strings.TrimSpace(m[2]), m[3]
		switch {
		case kind == "console" && argument == "serve":
			r.klink = StartKlink(t, destination)
		case kind == "console" && argument == "live":
			r.start(body)
		case kind == "console":
			ran += r.console(body)
		case kind == "live":
			r.shows(body)
		case kind == "properties" && argument != "":
			if err := os.WriteFile(filepath.Join(r.dir, argument), []byte(r.addresses(body)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if ran < 25 {
		t.Errorf("only %d commands found in the tutorial: has its form changed?", ran)
	}
	if code := r.klink.Terminate(t); code != 0 {
		t.Errorf("klink ended with %d after SIGTERM", code)
	}
}

type tutorial struct {
	t                   *testing.T
	dir                 string // of files and contexts
	source, destination *kafkatest.Cluster
	klink               *Klink
	live                *Command // the second terminal
}

// addresses puts the real ones in the place of the tutorial's.
func (r *tutorial) addresses(s string) string {
	klink := "127.0.0.1:1"
	if r.klink != nil {
		klink = r.klink.Bootstrap()
	}
	return strings.NewReplacer("source.example:9092", r.source.Bootstrap(), "klink.example:19092", klink).Replace(s)
}

var piped = regexp.MustCompile(`^printf '(.*)' \| (.*)$`)

// command takes a line apart: what is typed into the command, and its arguments. None of them has spaces.
func (r *tutorial) command(line string) (stdin string, args []string) {
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

// console runs the commands of a block and compares what they print; it returns how many there were.
func (r *tutorial) console(body string) (n int) {
	r.t.Helper()
	for block := range strings.SplitSeq("\n"+body, "\n$ ") {
		line, want, _ := strings.Cut(block, "\n")
		if strings.TrimSpace(block) == "" {
			continue
		}
		n++
		stdin, args := r.command(line)
		code := 0
		if strings.HasPrefix(want, "Error: ") {
			code = 1
		}
		stdout, stderr, got := RunCommand(r.t, r.dir, stdin, args...)
		if got != code {
			r.t.Fatalf("$ %s\nexit code %d instead of %d\n%s%s", line, got, code, stdout, stderr)
		}
		// What tells a person to wait is not part of the page.
		stderr = regexp.MustCompile(`(?m)^Waiting for records of .*\n`).ReplaceAllString(stderr, "")
		if !same(want, stdout+stderr) {
			r.t.Fatalf("$ %s\nprints\n%s%s\nand not, as the tutorial says,\n%s", line, stdout, stderr, want)
		}
	}
	return n
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
func (r *tutorial) start(body string) {
	r.t.Helper()
	line, want, _ := strings.Cut(body, "\n")
	_, args := r.command(line)
	r.live = StartCommand(r.t, r.dir, nil, args...)
	kafkatest.WaitFor(r.t, time.Minute, "the second terminal to say: "+want, func() (bool, string) {
		return strings.TrimSpace(r.live.Stderr()) == strings.TrimSpace(want), r.live.Stderr()
	})
}

// shows waits until the second terminal has shown exactly these lines, and ends its command with ^C.
func (r *tutorial) shows(want string) {
	r.t.Helper()
	kafkatest.WaitFor(r.t, time.Minute, fmt.Sprintf("the second terminal to show %q", want), func() (bool, string) {
		return r.live.Stdout() == want, r.live.Stdout() + r.live.Stderr()
	})
	code, err := r.live.Terminate(exitTimeout)
	if err != nil || code != 0 {
		r.t.Fatalf("the consumer of the second terminal ended with %d, %v\n%s", code, err, r.live.Stderr())
	}
}
