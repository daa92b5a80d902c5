package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
)

// groups is a link that syncs consumer offsets.
type groups struct {
	*exact
	through *kadm.Client // klink
}

var syncSomeGroups = []string{
	"consumer.offset.sync.enable=true", "consumer.offset.sync.ms=500",
	`consumer.offset.group.filters={"groupFilters":[{"name":"app-","patternType":"PREFIXED","filterType":"INCLUDE"},{"name":"app-local","patternType":"LITERAL","filterType":"EXCLUDE"}]}`,
}

func newGroups(t *testing.T) *groups {
	t.Helper()
	e := newSecured(t, secured{topics: []string{"filtered", "moving", "behind", "lost", "busy", "kept"}, link: syncSomeGroups})
	return &groups{exact: e, through: kadm.NewClient(connect(t, e.k.Bootstrap()))}
}

// mirror makes a topic of two partitions with records at the source, and its mirror.
func (g *groups) mirror(t *testing.T, topic string, records int) {
	t.Helper()
	g.createSource(t, topic, 2)
	g.write(t, topic, records)
	g.k.MustCLI(t, "topic", "create", topic, "--link", "east")
	g.awaitEnd(t, topic, int64(records))
}

// write writes records to partition 0 at the source.
func (g *groups) write(t *testing.T, topic string, records int) {
	t.Helper()
	kafkatest.Produce(t, g.source.Client(t), topic, 0, kafkatest.Records(records, 50)...)
}

func (g *groups) awaitEnd(t *testing.T, topic string, end int64) {
	t.Helper()
	kafkatest.WaitFor(t, time.Minute, fmt.Sprintf("mirror %s to end at %d", topic, end), func() (bool, string) {
		listed, err := g.through.ListEndOffsets(g.ctx, topic)
		o, _ := listed.Lookup(topic, 0)
		return err == nil && o.Offset == end, fmt.Sprint(o, err)
	})
}

func (g *groups) commit(t *testing.T, adm *kadm.Client, group, topic string, at int64) {
	t.Helper()
	var os kadm.Offsets
	os.Add(kadm.Offset{Topic: topic, At: at, LeaderEpoch: 0, Metadata: "of " + group})
	if err := adm.CommitAllOffsets(g.ctx, group, os); err != nil {
		t.Fatal(err)
	}
}

// at is what a group has committed for partition 0; -1 = nothing.
func (g *groups) at(adm *kadm.Client, group, topic string) kadm.Offset {
	fetched, err := adm.FetchOffsets(g.ctx, group)
	if o, ok := fetched.Lookup(topic, 0); err == nil && ok {
		return o.Offset
	}
	return kadm.Offset{At: -1}
}

func (g *groups) await(t *testing.T, group, topic string, at int64) {
	t.Helper()
	kafkatest.WaitFor(t, time.Minute, fmt.Sprintf("group %s to be at %d of %s", group, at, topic), func() (bool, string) {
		o := g.at(g.through, group, topic)
		return o.At == at, fmt.Sprint(o)
	})
}

// stays fails the test unless a group is where it is supposed to be, after a run of the sync that
// began after now.
func (g *groups) stays(t *testing.T, group, topic string, at int64) {
	t.Helper()
	g.runs(t)
	if o := g.at(g.through, group, topic); o.At != at {
		t.Errorf("group %s is at %d of %s, want %d", group, o.At, topic, at)
	}
}

type taskListing struct {
	Name, State string
	LastRunTime string `json:"last_run_time"`
	Errors      []struct {
		Error   string `json:"error"`
		Message string `json:"error_message"`
	}
}

// listTask is what is told of a task of the link.
func (e *exact) listTask(t *testing.T, name string) taskListing {
	t.Helper()
	var tasks []taskListing
	if err := json.Unmarshal([]byte(e.k.MustCLI(t, "link", "task", "list", "east", "-o", "json")), &tasks); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(tasks, func(task taskListing) bool { return task.Name == name })
	if i < 0 {
		t.Fatalf("%+v", tasks)
	}
	return tasks[i]
}

// taskRuns waits for a run of a task that begins after now, and returns what is told of it.
func (e *exact) taskRuns(t *testing.T, name string) (task taskListing) {
	t.Helper()
	for range 2 { // the one under way, and one more
		last := e.listTask(t, name).LastRunTime
		kafkatest.WaitFor(t, time.Minute, "the task to run", func() (bool, string) {
			task = e.listTask(t, name)
			return task.LastRunTime != "" && task.LastRunTime != last, fmt.Sprintf("%+v", task)
		})
	}
	return task
}

func (g *groups) runs(t *testing.T) taskListing {
	t.Helper()
	return g.taskRuns(t, "ConsumerOffsetSync")
}

// TestGroupOffsets: issue 5, point 1.
func TestGroupOffsets(t *testing.T) {
	t.Parallel()
	g := newGroups(t)
	t.Run("include and exclude", g.includeAndExclude)
	t.Run("a group moves while others stay", g.oneMoves)
	t.Run("an offset beyond the mirror is brought up", g.broughtUp)
	t.Run("an offset beyond the mirror ends with it", g.endsWithTheMirror)
	t.Run("an active group is left alone", g.activeIsLeftAlone)
	t.Run("progress at the destination is kept", g.progressIsKept)
	if task := g.runs(t); task.State != "ACTIVE" {
		t.Errorf("%+v", task)
	}
}

// TestGroupOffsetsOldBrokers: the same between brokers of Kafka 2.4.1, which do not list the states
// of groups, and tell the offsets of one group at a time.
func TestGroupOffsetsOldBrokers(t *testing.T) {
	t.Parallel()
	e := exactBetween(t, kafkatest.StartOld(t), kafkatest.StartOld(t), syncSomeGroups...)
	g := &groups{exact: e, through: kadm.NewClient(connect(t, e.k.Bootstrap()))}
	t.Run("include and exclude", g.includeAndExclude)
	t.Run("a group moves while others stay", g.oneMoves)
	t.Run("an active group is left alone", g.activeIsLeftAlone)
}

func (g *groups) includeAndExclude(t *testing.T) {
	g.mirror(t, "filtered", 100)
	for _, group := range []string{"app-in", "app-local", "other"} {
		g.commit(t, g.adm, group, "filtered", 40)
	}
	g.await(t, "app-in", "filtered", 40)
	if o := g.at(g.dst, "app-in", "filtered"); o.Metadata != "of app-in" || o.LeaderEpoch != -1 {
		t.Errorf("%+v", o)
	}
	g.stays(t, "app-local", "filtered", -1)
	g.stays(t, "other", "filtered", -1)
	g.commit(t, g.adm, "app-in", "filtered", 25) // reset by somebody at the source
	g.await(t, "app-in", "filtered", 25)
	if _, err := g.adm.DeleteGroups(g.ctx, "app-in"); err != nil {
		t.Fatal(err)
	}
	g.stays(t, "app-in", "filtered", 25)
}

// oneMoves: consumers of one group are stopped at the source and started at the destination, where
// they go on with the next record; another group goes on at the source and is followed all the
// time.
func (g *groups) oneMoves(t *testing.T) {
	g.mirror(t, "moving", 100)
	consume := func(bootstrap, group string) *across {
		return consumeAcross(t, bootstrap, group, "moving")
	}
	moves, stays := consume(g.source.Bootstrap(), "app-moves"), consume(g.source.Bootstrap(), "app-stays")
	moves.await(t, 100)
	stays.await(t, 100)
	_, stderr, code := g.k.CLI(t, "group", "migrate", "app-moves", "--link", "east")
	if code != 1 || !strings.Contains(stderr, "group 'app-moves' is active at the source (Stable): stop its consumers there first") {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	moves.leave(t)
	g.write(t, "moving", 20)
	out := g.k.MustCLI(t, "group", "migrate", "app-moves", "--link", "east")
	if !strings.Contains(out, `Group "app-moves" has moved`) {
		t.Fatal(out)
	}
	t.Log("\n" + out)
	moved := consume(g.k.Bootstrap(), "app-moves")
	if offsets := moved.await(t, 20); offsets[0] != 100 {
		t.Errorf("the group goes on at %d, want 100", offsets[0])
	}
	moved.leave(t)

	// A straggler at the source moves nothing any more, and who stayed is followed.
	g.commit(t, g.adm, "app-moves", "moving", 60)
	g.stays(t, "app-moves", "moving", 120)
	stays.await(t, 120)
	stays.leave(t)
	g.await(t, "app-stays", "moving", 120)
	if task := g.runs(t); task.State != "ACTIVE" {
		t.Errorf("%+v", task)
	}
}

// broughtUp: a group of the source is ahead of the mirror, which is paused; it gets there with the
// mirror.
func (g *groups) broughtUp(t *testing.T) {
	g.mirror(t, "behind", 100)
	g.k.MustCLI(t, "mirror", "pause", "behind")
	g.write(t, "behind", 5)
	g.commit(t, g.adm, "app-ahead", "behind", 105)
	g.await(t, "app-ahead", "behind", 100)
	g.stays(t, "app-ahead", "behind", 100)
	g.k.MustCLI(t, "mirror", "resume", "behind")
	g.await(t, "app-ahead", "behind", 105)
}

// endsWithTheMirror: source 105, mirror 100, group ends at 100, and stays there.
func (g *groups) endsWithTheMirror(t *testing.T) {
	g.mirror(t, "lost", 100)
	g.k.MustCLI(t, "mirror", "pause", "lost")
	g.write(t, "lost", 5)
	g.commit(t, g.adm, "app-lost", "lost", 105)
	g.await(t, "app-lost", "lost", 100)
	g.k.MustCLI(t, "mirror", "failover", "lost")
	g.commit(t, g.adm, "app-lost", "lost", 104)
	g.stays(t, "app-lost", "lost", 100)
}

func (g *groups) activeIsLeftAlone(t *testing.T) {
	g.mirror(t, "busy", 100)
	c := consumeAcross(t, g.k.Bootstrap(), "app-busy", "busy")
	c.await(t, 100)
	g.write(t, "busy", 10)
	c.await(t, 110)
	g.commit(t, g.adm, "app-busy", "busy", 50)
	g.commit(t, g.adm, "app-idle", "busy", 50)
	g.await(t, "app-idle", "busy", 50)
	task := g.runs(t)
	if task.State != "IN_ERROR" || len(task.Errors) != 1 || task.Errors[0].Error != "CONSUMER_GROUP_IN_USE_ERROR" || !strings.Contains(task.Errors[0].Message, "group 'app-busy' is active at the destination") {
		t.Errorf("%+v", task)
	}
	g.commit(t, g.adm, "app-busy", "busy", 110) // ahead of what the destination may have committed
	g.runs(t)
	_, stderr, code := g.k.CLI(t, "group", "migrate", "app-busy", "--link", "east")
	if code != 1 || !strings.Contains(stderr, "CONSUMER_GROUP_IN_USE_ERROR") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	c.leave(t)
	if o := g.at(g.through, "app-busy", "busy"); o.At != 110 {
		t.Errorf("the group that was active has committed %d, want 110", o.At)
	}
}

// progressIsKept: what a consumer at the destination has committed is never set back, by no run and
// by no klink that was killed and started again; what klink wrote itself still follows the source
// then.
func (g *groups) progressIsKept(t *testing.T) {
	g.mirror(t, "kept", 100)
	g.commit(t, g.adm, "app-kept", "kept", 30)
	g.commit(t, g.adm, "app-follows", "kept", 30)
	g.await(t, "app-kept", "kept", 30)
	g.await(t, "app-follows", "kept", 30)
	c := consumeAcross(t, g.k.Bootstrap(), "app-kept", "kept")
	if offsets := c.await(t, 70); offsets[0] != 30 {
		t.Errorf("the group begins at %d, want 30", offsets[0])
	}
	c.leave(t)
	g.stays(t, "app-kept", "kept", 100)
	g.commit(t, g.adm, "app-kept", "kept", 45)
	g.stays(t, "app-kept", "kept", 100)
	time.Sleep(11 * time.Second) // what klink remembers is stored every ten seconds
	g.runs(t)
	g.k.Kill()
	g.commit(t, g.adm, "app-kept", "kept", 10)
	g.commit(t, g.adm, "app-follows", "kept", 20)
	g.k.Restart()
	g.await(t, "app-follows", "kept", 20)
	g.stays(t, "app-kept", "kept", 100)
	g.commit(t, g.adm, "app-kept", "kept", 12)
	g.stays(t, "app-kept", "kept", 100)
}

// TestGroupOffsetsAtScale: 1,000 groups of 20 partitions (5,000 in `make soak`) are synced within
// one default interval, without an error although the destination has no topic for offsets before.
func TestGroupOffsetsAtScale(t *testing.T) {
	t.Parallel()
	const partitions = 20
	n := whole(5000, 1000)
	e := newExact(t, kafkatest.Start(t))
	e.createSource(t, "many", partitions)
	cl := e.source.Client(t)
	for p := range int32(partitions) {
		kafkatest.Produce(t, cl, "many", p, kafkatest.Records(50, 10)...)
	}
	e.k.MustCLI(t, "topic", "create", "many", "--link", "east")
	awaitMirror(t, e.k, e.source, "many")
	names := make([]string, n)
	work := make(chan string)
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			for name := range work {
				var os kadm.Offsets
				for p := range int32(partitions) {
					os.AddOffset("many", p, int64(p)+1, -1)
				}
				if err := e.adm.CommitAllOffsets(e.ctx, name, os); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range names {
		names[i] = fmt.Sprintf("group-%04d", i)
		work <- names[i]
	}
	close(work)
	all.Wait()
	task := func() taskListing { return e.listTask(t, "ConsumerOffsetSync") }
	begun, before := time.Now(), cpuTime(t, e.k.PID(t))
	e.k.MustCLI(t, "link", "update", "east", "--config", "consumer.offset.sync.enable=true",
		"--config", `consumer.offset.group.filters={"groupFilters":[{"name":"*","patternType":"LITERAL","filterType":"INCLUDE"}]}`)
	kafkatest.WaitFor(t, 2*time.Minute, "the first run to end", func() (bool, string) {
		run := task()
		return run.LastRunTime != "", fmt.Sprintf("%+v", run)
	})
	spent := cpuTime(t, e.k.PID(t)) - before
	t.Logf("%d groups of %d partitions: the first sync took %v, the command and looking included, and %v of klink's CPU time",
		n, partitions, time.Since(begun).Round(time.Millisecond), spent)
	// The time on the clock is the brokers' and the machine's. klink's own work must stay well
	// below the default interval, 30 s, with 5,000 groups.
	if spent > 10*time.Second*time.Duration(n)/5000 {
		t.Errorf("the first sync took %v of CPU time", spent)
	}
	if run := task(); run.State != "ACTIVE" {
		t.Errorf("%+v", run)
	}
	for chunk := range slices.Chunk(names, 500) {
		fetched := e.dst.FetchManyOffsets(e.ctx, chunk...)
		for _, name := range chunk {
			for p := range int32(partitions) {
				if o, _ := fetched[name].Fetched.Lookup("many", p); o.At != int64(p)+1 {
					t.Fatalf("group %s is at %d of partition %d", name, o.At, p)
				}
			}
		}
	}
	e.k.Kill()
	e.k.Restart()
	begun = time.Now()
	kafkatest.WaitFor(t, 2*time.Minute, "a run to end after the restart", func() (bool, string) {
		run := task()
		return run.LastRunTime != "", fmt.Sprintf("%+v", run)
	})
	t.Logf("with nothing to be written, after a restart: %v; klink has %d MiB", time.Since(begun).Round(time.Millisecond), e.k.RSS(t)>>20)
}
