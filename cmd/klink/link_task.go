package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"klink/protocol/linkapi"
)

func (a *app) linkTaskCommand() *cobra.Command {
	return group("task", "Show the tasks of a link", a.linkTaskList())
}

// linkTaskJSON is a task of a link. Times are from the klink instance that answered; null = never
// since it started.
type linkTaskJSON struct {
	Name            string              `json:"name"`
	State           string              `json:"state"`
	IntervalMs      int64               `json:"interval_ms"`
	LastRunTime     *string             `json:"last_run_time"`
	LastSuccessTime *string             `json:"last_success_time"`
	Errors          []linkTaskErrorJSON `json:"errors"`
}

type linkTaskErrorJSON struct {
	Error        string `json:"error"`
	ErrorMessage string `json:"error_message"`
}

func (a *app) linkTaskList() *cobra.Command {
	return &cobra.Command{
		Use:   "list NAME",
		Short: "List the tasks of a link, with the errors of their last run",
		Long: `Lists the tasks of a link: what klink does for it periodically besides copying records. States are ACTIVE; IN_ERROR: the last
run had errors, and klink will retry; PAUSED: the link is paused; NOT_CONFIGURED: the configs of the link switch the task off.
Times are those of the klink instance that answers, since its start.`,
		Example:           `  klink link task list east-west`,
		Args:              exactArgs("NAME"),
		ValidArgsFunction: a.completeLinks(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withCluster(func(cl *cluster, _ *kadm.Client) error {
				resp, err := request[*linkapi.ListLinkTasksResponse](cmd.Context(), cl, &linkapi.ListLinkTasksRequest{Link: &args[0]})
				if err != nil {
					return err
				}
				if err := resultError(resp.ErrorCode, resp.ErrorMessage); err != nil {
					return err
				}
				if len(resp.Links) != 1 {
					return fmt.Errorf("%s answered with %d results for one link", cl.address, len(resp.Links))
				}
				l := resp.Links[0]
				if err := resultError(l.ErrorCode, l.ErrorMessage); err != nil {
					return prefixed("link", args[0], err)
				}
				return a.showLinkTasks(l.Tasks)
			})
		},
	}
}

// showLinkTasks prints a row for each task, and another for each error of a task after the first.
func (a *app) showLinkTasks(tasks []linkapi.LinkTask) error {
	list, rows := []linkTaskJSON{}, [][]any{}
	for _, t := range tasks {
		out := linkTaskJSON{t.Name, t.State, t.IntervalMs, timeText(t.LastRunTimeMs), timeText(t.LastSuccessTimeMs), []linkTaskErrorJSON{}}
		row := []any{t.Name, t.State, "-", "-", orDash(out.LastSuccessTime), (time.Duration(t.IntervalMs) * time.Millisecond).String()}
		for i, e := range t.Errors {
			out.Errors = append(out.Errors, linkTaskErrorJSON{e.Code, e.Message})
			if i > 0 {
				rows = append(rows, row)
				row = []any{"", "", "", "", "", ""}
			}
			row[2], row[3] = orDash(&e.Code), orDash(&e.Message)
		}
		list, rows = append(list, out), append(rows, row)
	}
	return a.show(list, []string{"Task Name", "State", "Error", "Error Message", "Last Success", "Interval"}, rows)
}
