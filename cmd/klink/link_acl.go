package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"klink/protocol/linkapi"
)

func (a *app) linkACL() *cobra.Command {
	return group("acl", "Manage the ACLs that a link copies", a.linkACLSync())
}

// aclJSON is an ACL as `link acl sync` shows it.
type aclJSON struct {
	ResourceType   string `json:"resource_type"`
	PatternType    string `json:"pattern_type"`
	ResourceName   string `json:"resource_name"`
	Principal      string `json:"principal"`
	Host           string `json:"host"`
	Operation      string `json:"operation"`
	PermissionType string `json:"permission_type"`
	// Managed: klink created it, and deletes it when the source no longer has it.
	Managed bool   `json:"managed"`
	Error   string `json:"error"`
}

type aclSyncJSON struct {
	DryRun  bool      `json:"dry_run"`
	Adds    []aclJSON `json:"adds"`
	Deletes []aclJSON `json:"deletes"`
	Present []aclJSON `json:"present"`
}

func (a *app) linkACLSync() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "sync NAME [--dry-run]",
		Short: "Copy ACLs from the source now, or show what would change",
		Long: `Compares the ACLs of the source that match acl.filters of the link with those of the destination. It creates the missing ones
there, and deletes those that klink created and the source no longer has. klink does the same by itself every acl.sync.ms while
acl.sync.enable is true. With --dry-run nothing changes, and acl.sync.enable need not be true.

klink never deletes ACLs that existed at the destination before (created by "others").`,
		Example: `  klink link acl sync east-west --dry-run`,
		Args:    exactArgs("NAME"), ValidArgsFunction: a.completeLinks(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withCluster(func(cl *cluster, _ *kadm.Client) error {
				resp, err := request[*linkapi.SyncACLsResponse](cmd.Context(), cl, &linkapi.SyncACLsRequest{
					TimeoutMs: timeoutMs, ValidateOnly: dryRun, Link: args[0],
				})
				if err != nil {
					return err
				}
				if err := resultError(resp.ErrorCode, resp.ErrorMessage); err != nil {
					return prefixed("link", args[0], err)
				}
				return a.showACLSync(dryRun, resp)
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would change")
	return cmd
}

func (a *app) showACLSync(dryRun bool, resp *linkapi.SyncACLsResponse) error {
	var (
		rows     [][]any
		failures []error
		counts   []any
		seen     = map[string]bool{}
	)
	list := func(action string, acls []linkapi.SyncedACL) []aclJSON {
		shown, done := []aclJSON{}, len(acls)
		for _, l := range acls {
			j := aclJSON{l.ResourceType, l.PatternType, l.ResourceName, l.Principal, l.Host, l.Operation, l.PermissionType, l.Managed, ""}
			by := "others"
			if l.Managed || action == "add" {
				by = "klink"
			}
			action := action
			if err := resultError(l.ErrorCode, l.ErrorMessage); err != nil {
				j.Error, action = err.Error(), action+" failed"
				if done--; !seen[j.Error] { // many ACLs often share a reason
					failures = append(failures, err)
				}
				seen[j.Error] = true
			}
			shown = append(shown, j)
			rows = append(rows, []any{action, by, l.Principal, l.PermissionType, l.Operation, l.ResourceType, l.PatternType, l.ResourceName, l.Host})
		}
		counts = append(counts, done)
		return shown
	}
	value := aclSyncJSON{dryRun, list("add", resp.Adds), list("delete", resp.Deletes), list("keep", resp.Present)}
	if err := a.show(value, []string{"Action", "Created By", "Principal", "Permission", "Operation", "Resource", "Pattern", "Name", "Host"}, rows); err != nil {
		return err
	}
	if a.output != "json" {
		text := "\n%d added, %d deleted, %d already there.\n"
		if dryRun {
			text = "\n%d to add, %d to delete, %d already there.\n"
		}
		fmt.Fprintf(a.out, text, counts...)
	}
	return errors.Join(failures...)
}
