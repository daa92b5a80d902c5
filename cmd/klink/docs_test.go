package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"klink/internal/config"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
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

// What docs/deploy runs are commands with settings that there are, and several instances differ in what they have to.
func TestDeployFiles(t *testing.T) {
	files, err := filepath.Glob("../../docs/deploy/*.yaml")
	require.NoError(t, err)
	require.Len(t, files, 3)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var commands [][]string
		docs := yaml.NewDecoder(bytes.NewReader(text))
		for {
			var doc yaml.Node
			if err := docs.Decode(&doc); errors.Is(err, io.EOF) {
				break
			} else {
				require.NoError(t, err, file)
			}
			commands = append(commands, serveCommands(&doc)...)
		}
		require.NotEmpty(t, commands, file)
		seen := map[string]bool{}
		for _, args := range commands {
			for i := range args {
				args[i] = strings.NewReplacer("$(POD_NAME)", "klink-0", "$(POD_NAMESPACE)", "default").Replace(args[i])
			}
			flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
			config.AddFlags(flags)
			require.NoError(t, flags.Parse(args[1:]), file)
			cfg, err := config.Load(flags, nil)
			require.NoError(t, err, file)
			require.NotEmpty(t, cfg.InstanceID, file)
			require.NotEmpty(t, cfg.HTTP, file)
			for _, unique := range []string{cfg.InstanceID, cfg.Advertise + cfg.Listen} {
				require.False(t, seen[unique], "%s: %s twice", file, unique)
				seen[unique] = true
			}
		}
		if strings.Contains(string(text), "kubernetes") || strings.Contains(file, "kubernetes") {
			require.Contains(t, string(text), "path: /readyz")
			require.Contains(t, string(text), "path: /healthz")
		}
	}
}

// serveCommands are the lists of words that begin with serve.
func serveCommands(n *yaml.Node) (commands [][]string) {
	if n.Kind == yaml.SequenceNode && len(n.Content) > 0 && n.Content[0].Value == "serve" {
		var words []string
		for _, c := range n.Content {
			words = append(words, c.Value)
		}
		return [][]string{words}
	}
	for _, c := range n.Content {
		commands = append(commands, serveCommands(c)...)
	}
	return commands
}
