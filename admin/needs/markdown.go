package needs

import (
	"fmt"
	"strings"
)

// Rights returns the rights that klink needs as the table of docs/operations.md: a row for each
// resource.
func Rights(side Side) string {
	var b strings.Builder
	b.WriteString("| Resource | Operations |\n|---|---|\n")
	last := ""
	for _, n := range Table(side) {
		switch on := n.right.on; {
		case n.Kind != KindRight || on.doc == "":
		case on.doc == last:
			b.WriteString(", " + operationName(n.right.operation))
		default:
			if last != "" {
				b.WriteString(" |\n")
			}
			last = on.doc
			fmt.Fprintf(&b, "| %s | %s", on.doc, operationName(n.right.operation))
		}
	}
	return b.String() + " |\n"
}

// Markdown returns all needs of a side as the table of docs/vendors.md.
func Markdown(side Side) string {
	var b strings.Builder
	b.WriteString("| Kind | Need | For | Required | Without it |\n|---|---|---|---|---|\n")
	for _, n := range Table(side) {
		required := "no"
		if n.Required {
			required = "yes"
		}
		name := n.Name
		if n.api.least > 0 {
			name += fmt.Sprintf(" v%d", n.api.least)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", n.Kind, name, n.Use, required, n.Lost)
	}
	return b.String()
}
