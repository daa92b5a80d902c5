package config

import (
	"fmt"
	"strings"
)

// Markdown returns the table of settings for docs/configs.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| Setting | Environment | Type | Default | |\n|---|---|---|---|---|\n")
	for _, s := range Settings {
		def := ""
		if s.Default != "" {
			def = "`" + s.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s |\n", s.Name, s.Env(), strings.ReplaceAll(s.Type, "|", `\|`), def, s.Doc)
	}
	return b.String()
}
