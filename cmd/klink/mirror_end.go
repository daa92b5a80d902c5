package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"klink/protocol/linkapi"
)

// mirrorsFlags select the mirrors that a command ends: the named ones, or with --link L --all every
// mirror of the link that is not stopped.
type mirrorsFlags struct {
	link string
	all  bool
}

func (a *app) addMirrorsFlags(cmd *cobra.Command) *mirrorsFlags {
	f := &mirrorsFlags{}
	cmd.Flags().StringVar(&f.link, "link", "", "with --all: stop the mirrors of `LINK`")
	cmd.Flags().BoolVar(&f.all, "all", false, "all mirrors of --link that are not stopped")
	_ = cmd.RegisterFlagCompletionFunc("link", a.completeLinks())
	cmd.ValidArgsFunction = a.completeMirrors()
	cmd.Args = func(_ *cobra.Command, args []string) error {
		switch {
		case f.all && f.link == "":
			return usagef("--all needs --link LINK")
		case !f.all && f.link != "":
			return usagef("--link needs --all")
		case f.all && len(args) > 0:
			return usagef("give topics, or use --link %s --all, not both", f.link)
		case !f.all && len(args) == 0:
			return usagef("missing argument TOPIC")
		}
		return nil
	}
	return f
}

// topics returns the selected mirrors, each once.
func (f *mirrorsFlags) topics(ctx context.Context, cl *cluster, args []string) ([]string, error) {
	if !f.all {
		var topics []string
		seen := map[string]bool{}
		for _, topic := range args {
			if !seen[topic] {
				seen[topic] = true
				topics = append(topics, topic)
			}
		}
		return topics, nil
	}
	mirrors, err := listMirrors(ctx, cl, &f.link)
	if err != nil {
		return nil, prefixed("link", f.link, err)
	}
	var topics []string
	for _, m := range mirrors {
		if m.State != "STOPPED" {
			topics = append(topics, m.Topic)
		}
	}
	return topics, nil
}

// endedMirrorJSON is the outcome for a mirror that was to be promoted or failed over.
type endedMirrorJSON struct {
	Topic   string `json:"topic"`
	Stopped bool   `json:"stopped"`
	Error   string `json:"error"` // why the mirror was not stopped
	// LeftBehind are the partitions of a failover for which the source had more, or may have had.
	LeftBehind []leftBehindJSON `json:"left_behind"`
}

// leftBehindJSON is what a partition of a stopped mirror lacks; -1 = unknown.
type leftBehindJSON struct {
	Partition       int32 `json:"partition"`
	SourceEndOffset int64 `json:"source_end_offset"` // as last seen
	Offsets         int64 `json:"offsets"`
	// SourceSeen is when klink last saw the source, if that was long before the stop. Offsets is
	// then the least that was left behind.
	SourceSeen *string `json:"source_seen"`
}

func (a *app) mirrorFailover(use, short string) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   use + " [TOPIC...]",
		Short: short,
		Long: short + `.

The command does not wait for the source, and does not need it: records that are not mirrored yet are left behind. It shows how many, by
partition: the end of the source as last seen minus the end of the mirror. If the source had not responded for some seconds, there may
be more, and the command shows when it last responded.
klink resets committed offsets beyond the end of the mirror to that end. You can repeat an interrupted command.`,
	}
	which := a.addMirrorsFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withCluster(func(cl *cluster, _ *kadm.Client) error {
			topics, err := which.topics(cmd.Context(), cl, args)
			if err != nil {
				return err
			}
			e := &ending{a: a, cl: cl, topics: topics, op: linkapi.MirrorFailover, timeout: requestTimeout}
			if dryRun {
				return e.validate(cmd.Context(), use)
			}
			return e.run(cmd.Context())
		})
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only check whether it is possible")
	return cmd
}

// ending is a promotion or failover of mirrors.
type ending struct {
	a       *app
	cl      *cluster
	topics  []string
	op      int8
	timeout time.Duration
}

// alter sends the request. It returns one result for each topic.
func (e *ending) alter(ctx context.Context, validateOnly bool) ([]linkapi.AlteredMirror, error) {
	req := &linkapi.AlterMirrorsRequest{TimeoutMs: int32(e.timeout.Milliseconds()), ValidateOnly: validateOnly}
	for _, topic := range e.topics {
		req.Mirrors = append(req.Mirrors, linkapi.AlterMirror{Topic: topic, Op: e.op})
	}
	resp, err := request[*linkapi.AlterMirrorsResponse](ctx, e.cl, req)
	if err != nil {
		return nil, err
	}
	if len(resp.Results) != len(e.topics) {
		return nil, fmt.Errorf("%s answered with %d results for %d mirrors", e.cl.address, len(resp.Results), len(e.topics))
	}
	return resp.Results, nil
}

// validate reports for each mirror whether the command could be done.
func (e *ending) validate(ctx context.Context, use string) error {
	results, err := e.alter(ctx, true)
	if err != nil {
		return err
	}
	var failures []error
	for _, r := range results {
		if err := resultError(r.ErrorCode, r.ErrorMessage); err != nil {
			failures = append(failures, prefixed("topic", r.Name, err))
		} else {
			fmt.Fprintf(e.a.out, "Topic %q: %s is possible.\n", r.Name, use)
		}
	}
	return errors.Join(failures...)
}

// run ends the mirrors and prints the outcome of each, even if others fail.
func (e *ending) run(ctx context.Context) error {
	ended := make([]endedMirrorJSON, len(e.topics))
	if len(e.topics) > 0 {
		end := e.watch(ctx)
		results, err := e.alter(ctx, false)
		end()
		if err != nil {
			if e.op == linkapi.MirrorPromote {
				fmt.Fprintln(e.a.err, "The promotion continues until its time-out: repeat the command to wait for it, or cancel it with `klink mirror resume`.")
			}
			return err
		}
		for i, r := range results {
			ended[i] = endedMirrorJSON{Topic: r.Name, Stopped: r.ErrorCode == 0, LeftBehind: []leftBehindJSON{}}
			if err := resultError(r.ErrorCode, r.ErrorMessage); err != nil {
				ended[i].Error = err.Error()
			}
		}
		if err := e.leftBehind(ctx, ended); err != nil {
			fmt.Fprintf(e.a.err, "Cannot show what was left behind: %v\n", err)
		}
	}
	if e.a.output == "json" {
		if err := e.a.json(ended); err != nil {
			return err
		}
	} else {
		e.print(ended)
	}
	var failures []error
	for _, m := range ended {
		if !m.Stopped {
			failures = append(failures, prefixed("topic", m.Topic, errors.New(m.Error)))
		}
	}
	return errors.Join(failures...)
}

func (e *ending) print(ended []endedMirrorJSON) {
	if len(ended) == 0 {
		fmt.Fprintln(e.a.out, "All mirrors are already stopped.")
	}
	var rows [][]any
	for _, m := range ended {
		if m.Stopped {
			fmt.Fprintf(e.a.out, "Stopped mirroring for topic %q.\n", m.Topic)
		}
		for _, l := range m.LeftBehind {
			behind := fmt.Sprint(offset(l.Offsets))
			if l.SourceSeen != nil {
				behind = "at least " + behind
			}
			rows = append(rows, []any{m.Topic, l.Partition, offset(l.SourceEndOffset), orDash(l.SourceSeen), behind})
		}
	}
	if len(rows) > 0 {
		fmt.Fprintln(e.a.out)
		e.a.table([]string{"Mirror Topic", "Partition", "Source End Offset", "Source Last Seen", "Offsets Left Behind"}, rows)
	}
}

// leftBehind fills in what failed-over mirrors lack. A mirror that was promoted before has
// everything, and one that was only planned is gone.
func (e *ending) leftBehind(ctx context.Context, ended []endedMirrorJSON) error {
	if e.op != linkapi.MirrorFailover {
		return nil
	}
	var topics []string
	var at []int
	for i, m := range ended {
		if m.Stopped {
			topics, at = append(topics, m.Topic), append(at, i)
		}
	}
	if len(topics) == 0 {
		return nil
	}
	mirrors, err := describeMirrors(ctx, e.cl, topics)
	if err != nil {
		return err
	}
	for n, m := range mirrors {
		for _, p := range m.Partitions {
			if seen := timeText(p.LastFetchTimeMs); p.Lag != 0 || seen != nil {
				l := &ended[at[n]].LeftBehind
				*l = append(*l, leftBehindJSON{p.Partition, p.SourceEndOffset, p.Lag, seen})
			}
		}
	}
	return nil
}

// watch shows the progress of a promotion until the caller calls end. end returns once nothing is
// shown any more. A failover ends too soon to show anything.
func (e *ending) watch(ctx context.Context) (end func()) {
	if e.op != linkapi.MirrorPromote {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p := newProgress(e.a.stderr)
		defer p.clear()
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(progressInterval):
			}
			if mirrors, err := describeMirrors(ctx, e.cl, e.topics); err == nil && ctx.Err() == nil {
				p.show(promotionText(mirrors), time.Now())
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// promotionText summarizes the progress of promotions in one line.
func promotionText(mirrors []linkapi.DescribedMirror) string {
	var left, away, unknown int
	var lag, most int64
	var worst string
	open := 0
	for _, m := range mirrors {
		if m.State == "STOPPED" {
			continue
		}
		left++
		if m.Error != "" {
			away++
		}
		var own int64
		isOpen := false
		for _, p := range m.Partitions {
			if p.Lag < 0 {
				unknown++
				continue
			}
			own += p.Lag
			isOpen = isOpen || hasOpenTransaction(p)
		}
		lag += own
		if own > most {
			most, worst = own, m.Topic
		}
		if isOpen {
			open++
		}
	}
	parts := []string{fmt.Sprintf("promoting: %d of %d mirrors left", left, len(mirrors))}
	switch {
	case lag > 0 && left > 1:
		parts = append(parts, fmt.Sprintf("%d offsets behind, most in %s: %d", lag, worst, most))
	case lag > 0:
		parts = append(parts, fmt.Sprintf("%d offsets behind", lag))
	case left > 0 && unknown == 0:
		parts = append(parts, "without lag")
	}
	if unknown > 0 {
		parts = append(parts, fmt.Sprintf("the lag of %d partitions is unknown", unknown))
	}
	if open > 0 {
		parts = append(parts, fmt.Sprintf("transactions are open at the source in %d", open))
	}
	if away > 0 {
		parts = append(parts, fmt.Sprintf("%d cannot continue, see `klink mirror list`", away))
	}
	return strings.Join(parts, ", ")
}
