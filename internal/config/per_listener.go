package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// defaultListener is the name of the only listener, if --listen gives it none.
const defaultListener = "default"

// named is an entry NAME=VALUE of a list; name "" = it has none.
type named struct{ name, value string }

// splitNamed splits a comma-separated list; empty entries do not count. What is before the first
// equals sign is a name only if it looks like one, so that the path of a file may have that sign.
func splitNamed(s string) (list []named) {
	for _, part := range splitList(s) {
		name, value, ok := strings.Cut(part, "=")
		if !ok || !isName(name) {
			name, value = "", part
		}
		list = append(list, named{name, value})
	}
	return list
}

// isName reports whether s can be the name of a listener: letters, digits, - and _.
func isName(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			return false
		}
	}
	return s != ""
}

// setListeners takes one HOST:PORT, or NAME=HOST:PORT for each of several listeners.
func setListeners(to *[]named, s string) error {
	list := splitNamed(s)
	if len(list) == 1 && list[0].name == "" {
		list[0].name = defaultListener
	}
	seen := map[string]bool{}
	for _, l := range list {
		switch {
		case l.name == "":
			return fmt.Errorf("%q has no name: with several listeners, each is NAME=HOST:PORT", l.value)
		case seen[l.name]:
			return fmt.Errorf("two listeners are called %q", l.name)
		}
		seen[l.name] = true
		if err := setListen(new(string), l.value); err != nil {
			return err
		}
	}
	*to = list
	return nil
}

// perListener is the value of a setting that may differ between listeners.
type perListener struct {
	all    []string            // for every listener
	byName map[string][]string // or for those that are named
}

// setPerListener takes one value for all listeners, or a list NAME=VALUE,... If the setting takes
// several values (many), an entry without a name belongs to the listener that was named last. check
// says what is wrong with a value.
func setPerListener(to *perListener, s string, many bool, check func(value string) error) error {
	list := splitNamed(s)
	v := perListener{}
	switch {
	case len(list) == 0:
	case list[0].name == "" && !many:
		v.all = []string{strings.TrimSpace(s)}
	case list[0].name == "":
		v.all = splitList(s)
	default:
		v.byName = map[string][]string{}
		last := ""
		for _, e := range list {
			switch {
			case e.name != "":
				last = e.name
			case !many:
				return fmt.Errorf("%q has no name of a listener before it", e.value)
			}
			if len(v.byName[last]) > 0 && !many {
				return fmt.Errorf("listener %q has two values", last)
			}
			v.byName[last] = append(v.byName[last], e.value)
		}
	}
	for _, values := range append(slices.Collect(maps.Values(v.byName)), v.all) {
		for _, value := range values {
			if err := check(value); err != nil {
				return err
			}
		}
	}
	*to = v
	return nil
}

// of returns the values for a listener.
func (p perListener) of(name string) []string {
	if p.byName != nil {
		return p.byName[name]
	}
	return p.all
}

// one returns the value for a listener, or "".
func (p perListener) one(name string) string {
	if values := p.of(name); len(values) > 0 {
		return values[0]
	}
	return ""
}

// stranger returns an error if a listener is named that does not exist.
func (p perListener) stranger(listeners []string) error {
	for _, name := range slices.Sorted(maps.Keys(p.byName)) {
		if !slices.Contains(listeners, name) {
			return fmt.Errorf("no listener is called %q; --listen has %s", name, strings.Join(listeners, ", "))
		}
	}
	return nil
}

// anyText is the check of a setting that takes any text.
func anyText(value string) error {
	if value == "" {
		return errors.New("a value is empty")
	}
	return nil
}
