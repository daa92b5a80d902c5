package linkconfig

import (
	"fmt"
	"strings"
)

// Markdown returns the table of link configs for docs/configs.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| name | type | default | allowed | importance | what it does |\n|---|---|---|---|---|---|\n")
	for _, c := range table {
		def := code(c.Default)
		if c.Required {
			def = "required"
		}
		doc := c.Doc
		if c.Sensitive {
			doc += " Sensitive: encrypted in the state topic, and shown as `[hidden]`."
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", c.Name, c.Type, def, cell(c.Allowed), c.Importance, cell(doc))
	}
	return b.String()
}

// Help returns the table of link configs for a terminal.
func Help() string {
	var b strings.Builder
	for _, c := range table {
		fmt.Fprintf(&b, "%s (%s", c.Name, c.Type)
		switch {
		case c.Required:
			b.WriteString(", required")
		case c.Default != "":
			fmt.Fprintf(&b, ", default %s", c.Default)
		}
		b.WriteString(")\n")
		if c.Allowed != "" {
			fmt.Fprintf(&b, "    Allowed: %s.\n", c.Allowed)
		}
		fmt.Fprintf(&b, "    %s\n", c.Doc)
	}
	return b.String()
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
