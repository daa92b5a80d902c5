package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func pages(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	return append(pages, "../../README.md")
}

// Links between pages lead somewhere.
func TestDocsLinks(t *testing.T) {
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`).FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			require.FileExists(t, filepath.Join(filepath.Dir(page), m[1]), "%s links to it", page)
		}
	}
}

// Every klink command that a page shows exists, with its flags. (The tutorial's are run, on real clusters.)
func TestDocsCommands(t *testing.T) {
	shown := 0
	for _, page := range pages(t) {
		if filepath.Base(page) == "cli.md" {
			continue // generated
		}
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`(?m)^\$ (?:.*\| )?klink ([a-z].*?)(?: +#.*)?$`).FindAllStringSubmatch(string(text), -1) {
			args := strings.Fields(m[1])
			cmd, rest, err := (&app{}).root().Find(args)
			require.NoError(t, err, "%s: klink %s", page, m[1])
			require.True(t, cmd.HasParent() && !cmd.HasSubCommands(), "%s: klink %s is no command", page, m[1])
			require.NoError(t, cmd.ParseFlags(rest), "%s: klink %s", page, m[1])
			require.NoError(t, cmd.ValidateArgs(cmd.Flags().Args()), "%s: klink %s", page, m[1])
			shown++
		}
	}
	require.Greater(t, shown, 30)
}
