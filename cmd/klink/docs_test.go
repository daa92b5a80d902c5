package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"klink/proxy"
	"klink/telemetry"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

func pages(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	return append(pages, "../../README.md")
}

// Every link between pages has a target.
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

// Every klink command on a page exists, with its flags. (Another test runs the tutorial's commands
// on real clusters.)
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

// constants returns the values of the string constants of a type in klink/admin.
func constants(t *testing.T, typeName string) (values []string) {
	t.Helper()
	files, err := filepath.Glob("../../admin/model/*.go")
	require.NoError(t, err)
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		for _, d := range file.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.CONST {
				continue
			}
			for _, s := range decl.Specs {
				spec := s.(*ast.ValueSpec)
				if of, ok := spec.Type.(*ast.Ident); !ok || of.Name != typeName {
					continue
				}
				value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				require.NoError(t, err)
				if value != "" {
					values = append(values, value)
				}
			}
		}
	}
	return values
}

func section(t *testing.T, page, title string) string {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	_, text, found := bytes.Cut(text, []byte("\n"+title+"\n"))
	require.True(t, found, "%s has no %q", page, title)
	hashes, _, _ := strings.Cut(title, " ")
	text, _, _ = bytes.Cut(text, []byte("\n"+hashes+" "))
	return string(text)
}

// The docs explain exactly the errors that a link, a mirror or a task can have, and say what to do.
func TestDocsErrors(t *testing.T) {
	known := constants(t, "Error")
	require.Greater(t, len(known), 15)
	rows := regexp.MustCompile(`(?m)^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$`).FindAllStringSubmatch(section(t, "../../docs/operations.md", "## When something is wrong"), -1)
	require.Greater(t, len(rows), 20)
	explained := map[string]bool{}
	for _, row := range rows[1:] {
		require.NotRegexp(t, `^[\s-]*$`, row[2], row[0])
		require.NotRegexp(t, `^[\s-]*$`, row[3], row[0])
		for _, word := range regexp.MustCompile(`[A-Z][A-Z_]{3,}`).FindAllString(row[1], -1) {
			explained[word] = true
		}
	}
	protocol := section(t, "../../docs/protocol.md", "### States")
	for _, e := range known {
		require.True(t, explained[e], "docs/operations.md does not say what to do about %s", e)
		require.True(t, strings.Contains(protocol, e), "docs/protocol.md does not name %s", e)
		delete(explained, e)
	}
	states := slices.Concat(constants(t, "LinkState"), constants(t, "MirrorState"), constants(t, "TaskState"))
	for word := range explained {
		require.Contains(t, states, word, "docs/operations.md explains an error or state that there is not")
	}
}

// The alerts of docs/deploy/alerts.yaml use existing metrics, labels and states, and each alert is
// in the table of docs/operations.md.
func TestAlerts(t *testing.T) {
	labels := map[string][]string{"up": nil, "process_open_fds": nil, "process_max_fds": nil} // Prometheus' own, and its Go client's
	for _, m := range regexp.MustCompile("(?m)^\\| `[^`]+` \\| `([^`]+)` \\| [a-z]+ \\| [^|]+ \\| ([^|]*) \\|").FindAllStringSubmatch(telemetry.Markdown(), -1) {
		labels[m[1]] = append([]string{}, strings.FieldsFunc(m[2], func(r rune) bool { return strings.ContainsRune("`, ", r) })...)
	}
	require.Greater(t, len(labels), 30)
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	text, err := os.ReadFile("../../docs/deploy/alerts.yaml")
	require.NoError(t, err)
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(&file))
	require.Len(t, file.Groups, 1)
	table := section(t, "../../docs/operations.md", "## What to alert on")
	states := slices.Concat(constants(t, "LinkState"), constants(t, "MirrorState"), constants(t, "TaskState"))
	var reasons []string
	for _, r := range proxy.Reasons() {
		reasons = append(reasons, r.String())
	}
	selector := regexp.MustCompile(`\b(up|klink_\w+|process_\w+)(\{([^}]*)\})?`)
	matcher := regexp.MustCompile(`(\w+)=~?"([^"]*)"`)
	for _, rule := range file.Groups[0].Rules {
		require.True(t, strings.Contains(table, "`"+rule.Alert+"`"), "docs/operations.md does not explain %s", rule.Alert)
		require.Contains(t, []string{"page", "ticket"}, rule.Labels["severity"], rule.Alert)
		selectors := selector.FindAllStringSubmatch(rule.Expr, -1)
		require.NotEmpty(t, selectors, rule.Alert)
		has := []string{"job", "instance"}
		for _, s := range selectors {
			of, known := labels[s[1]]
			require.True(t, known, "%s: there is no metric %s", rule.Alert, s[1])
			has = append(has, of...)
			for _, m := range matcher.FindAllStringSubmatch(s[3], -1) {
				require.Contains(t, has, m[1], "%s: %s", rule.Alert, s[0])
				switch m[1] {
				case "state":
					require.Contains(t, states, m[2], rule.Alert)
				case "reason":
					require.Subset(t, reasons, strings.Split(m[2], "|"), rule.Alert)
				case "kind":
					require.Contains(t, []string{"buffered", "peak", "budget"}, m[2], rule.Alert)
				}
			}
		}
		if by := regexp.MustCompile(`\bby \(([^)]*)\)`).FindStringSubmatch(rule.Expr); by != nil {
			kept := strings.Split(by[1], ", ")
			require.Subset(t, has, kept, rule.Alert)
			has = kept
		}
		for _, m := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(rule.Annotations["summary"], -1) {
			require.Contains(t, has, m[1], "%s: %s", rule.Alert, rule.Annotations["summary"])
		}
	}
	for _, m := range regexp.MustCompile("`(Klink\\w+)`").FindAllStringSubmatch(table, -1) {
		require.True(t, strings.Contains(string(text), "alert: "+m[1]+"\n"), "docs/operations.md explains an alert that there is not: %s", m[1])
	}
}
