package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/xdg-go/stringprep"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"klink/internal/saslserver/users"
)

// maxPassword bounds the length of a password in bytes.
const maxPassword = 4 << 10

func (a *app) credentialsCommand() *cobra.Command {
	return group("credentials", "Keep the users who log in at klink itself",
		a.credentialsAdd(), a.credentialsList(), a.credentialsRemove())
}

// fileFlag adds the flag that names the file of users.
func fileFlag(cmd *cobra.Command, file *string) *cobra.Command {
	cmd.Flags().StringVar(file, "file", "", "`FILE` with the users, which klink serve reads with --sasl-credentials-file")
	_ = cmd.MarkFlagRequired("file")
	return cmd
}

func (a *app) credentialsAdd() *cobra.Command {
	var file string
	var mechanisms []string
	iterations := users.DefaultIterations
	cmd := &cobra.Command{
		Use:   "add USER --file FILE [--mechanism NAME]... [--iterations N]",
		Short: "Add a user, or give a user a new password",
		Long: `Adds a user, or gives a user a new password, for logins under klink serve --authentication terminate. The password comes from
the terminal, without being shown, or is the first line of standard input. The file holds what SCRAM needs to verify it
(RFC 5802), not the password. It is replaced in one step, with mode 0600, and a klink that runs reads it again.

A password that SASLprep (RFC 4013) would change is refused, because clients do not agree on whether to do that.`,
		Example: `  klink credentials add alice --file users.json
  klink credentials add alice --file users.json --iterations 16384 < password.txt`,
		Args: exactArgs("USER"),
		RunE: func(_ *cobra.Command, args []string) error {
			for _, m := range mechanisms {
				if !slices.Contains(users.Mechanisms, m) {
					return usagef("--mechanism: unknown mechanism %q; use %s", m, strings.Join(users.Mechanisms, " or "))
				}
			}
			if iterations < users.MinIterations || iterations > users.MaxIterations {
				return usagef("--iterations: %d is not from %d to %d", iterations, users.MinIterations, users.MaxIterations)
			}
			if err := users.CheckName(args[0]); err != nil {
				return usagef("%v", err)
			}
			password, err := a.newPassword(args[0])
			if err != nil {
				return err
			}
			return changeUsers(file, func(t *users.Table) error { return t.Set(args[0], password, mechanisms, iterations) })
		},
	}
	cmd.Flags().StringSliceVar(&mechanisms, "mechanism", users.Mechanisms, "`NAME` of a SCRAM mechanism to store the password for; PLAIN works with each of them")
	cmd.Flags().IntVar(&iterations, "iterations", iterations, "how often the password is hashed, `N` from 4096 to 16384")
	return fileFlag(cmd, &file)
}

func (a *app) credentialsRemove() *cobra.Command {
	var file string
	return fileFlag(&cobra.Command{
		Use:   "remove USER --file FILE",
		Short: "Remove a user",
		Long: `Removes a user, who then cannot log in any more. Connections of the user that are open go on: to end them, remove the
user from the credential map (klink serve --credential-map-file).`,
		Args: exactArgs("USER"),
		RunE: func(_ *cobra.Command, args []string) error {
			return changeUsers(file, func(t *users.Table) error {
				if t.Users[args[0]] == nil {
					return fmt.Errorf("there is no user %q in %s", args[0], file)
				}
				delete(t.Users, args[0])
				return nil
			})
		},
	}, &file)
}

func (a *app) credentialsList() *cobra.Command {
	var file string
	return fileFlag(&cobra.Command{
		Use:   "list --file FILE",
		Short: "List the users",
		Args:  exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			t, err := users.Read(file)
			if err != nil {
				return err
			}
			type user struct {
				Name       string   `json:"name"`
				Mechanisms []string `json:"mechanisms"`
			}
			list := []user{}
			rows := [][]any{}
			for _, name := range slices.Sorted(maps.Keys(t.Users)) {
				mechanisms := slices.Sorted(maps.Keys(t.Users[name]))
				list = append(list, user{name, mechanisms})
				var texts []string
				for _, m := range mechanisms {
					texts = append(texts, m+" ("+strconv.Itoa(t.Users[name][m].Iterations)+" iterations)")
				}
				rows = append(rows, []any{name, strings.Join(texts, ", ")})
			}
			return a.show(list, []string{"User", "Mechanisms"}, rows)
		},
	}, &file)
}

// changeUsers changes the file of users. It holds a lock on the directory, so that two commands at
// the same time do not lose a change.
func changeUsers(file string, change func(*users.Table) error) error {
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", filepath.Dir(file), err)
	}
	t, err := users.Read(file)
	if err != nil {
		return err
	}
	if err := change(t); err != nil {
		return err
	}
	return t.Write(file)
}

// newPassword reads a password from the terminal, twice, or from the first line of standard input.
func (a *app) newPassword(user string) (string, error) {
	if f, ok := a.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		ask := func(prompt string) (string, error) {
			fmt.Fprint(a.err, prompt)
			text, err := term.ReadPassword(int(f.Fd()))
			fmt.Fprintln(a.err)
			return string(text), err
		}
		password, err := ask(fmt.Sprintf("Password of %s: ", user))
		if err != nil {
			return "", err
		}
		again, err := ask("Again: ")
		if err != nil {
			return "", err
		}
		if password != again {
			return "", errors.New("the two passwords differ")
		}
		return password, checkPassword(password)
	}
	line, err := bufio.NewReader(io.LimitReader(a.in, maxPassword+2)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	password := strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	return password, checkPassword(password)
}

// checkPassword refuses passwords with which some clients could not log in.
func checkPassword(password string) error {
	if password == "" || len(password) > maxPassword {
		return fmt.Errorf("the password must have 1 to %d bytes", maxPassword)
	}
	prepared, err := stringprep.SASLprep.Prepare(password)
	if err != nil || strings.ContainsRune(password, 0) {
		return errors.New("the password has characters that SASL does not allow (RFC 4013), such as control characters")
	}
	if prepared != password {
		return errors.New("the password has characters that SASLprep (RFC 4013) changes, such as ligatures or spaces other than the usual one: clients do not agree on whether to do that, so choose another")
	}
	return nil
}
