package filter

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Names select groups, or topics: those that an INCLUDE filter matches and no EXCLUDE filter
// does.
type Names []Name

// Name is one of them. The tags are the names of the fields in the JSON.
type Name struct {
	Name        string  `json:"name"`        // "*" with LITERAL = every name
	PatternType Pattern `json:"patternType"` // of Name
	FilterType  Type    `json:"filterType"`
}

// Pattern says how the name of a filter matches: as it is, or as a prefix.
type Pattern string

// The patterns of names.
const (
	Literal  Pattern = "LITERAL"
	Prefixed Pattern = "PREFIXED"
)

// Type says what a filter does with the names that match.
type Type string

// The types of filters.
const (
	Include Type = "INCLUDE"
	Exclude Type = "EXCLUDE"
)

// The fields that hold the filters.
const (
	GroupField = "groupFilters"
	TopicField = "topicFilters"
	ACLField   = "aclFilters"
)

// Form shows people what the JSON of filters looks like.
func Form(field string) string {
	return fmt.Sprintf(` {"%s":[{"name":"NAME","patternType":"LITERAL or PREFIXED","filterType":"INCLUDE or EXCLUDE"},...]}`, field)
}

// ParseGroups reads the value of consumer.offset.group.filters. An empty one has no filters.
func ParseGroups(text string) (Names, error) {
	return parseNames(text, GroupField)
}

// ParseTopics reads the value of auto.create.mirror.topics.filters. An empty one has no
// filters.
func ParseTopics(text string) (Names, error) {
	return parseNames(text, TopicField)
}

func parseNames(text, field string) (Names, error) { return Parse(text, field, readName) }

func readName(r *Reader) (f Name, err error) {
	err = r.Object("a filter", []string{"name", "patternType", "filterType"}, func(field string) (err error) {
		var word string
		switch field {
		case "name":
			var at int
			if f.Name, at, err = r.Str("name"); err == nil && f.Name == "" {
				err = r.ErrorAt(at, `name is empty; use "*" with the patternType LITERAL for every name`)
			}
		case "patternType":
			word, err = r.word(field, string(Literal), string(Prefixed))
			f.PatternType = Pattern(word)
		case "filterType":
			word, err = r.word(field, string(Include), string(Exclude))
			f.FilterType = Type(word)
		}
		return err
	})
	return f, err
}

// Match reports whether the filters select a name.
func (f Names) Match(name string) (included bool) {
	for i := range f {
		if !f[i].matches(name) {
			continue
		}
		if f[i].FilterType == Exclude {
			return false
		}
		included = true
	}
	return included
}

func (f *Name) matches(name string) bool {
	if f.PatternType == Prefixed {
		return strings.HasPrefix(name, f.Name)
	}
	return f.Name == name || f.Name == "*"
}

// Encode returns JSON that parseGroupFilters or parseTopicFilters reads as the same filters; field
// is groupFiltersField or topicFiltersField. Without filters it returns "".
func (f Names) Encode(field string) string {
	if len(f) == 0 {
		return ""
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // people read it
	// Strings into memory: this cannot fail.
	_ = e.Encode(map[string]Names{field: f})
	return strings.TrimSpace(b.String())
}

// The link configs whose values are filters.
const (
	ConfigGroups = "consumer.offset.group.filters"
	ConfigACLs   = "acl.filters"
	ConfigTopics = "auto.create.mirror.topics.filters"
)

// configs maps the only field of the object in a filter config's JSON to the name of that
// config.
var configs = map[string]string{
	GroupField: ConfigGroups,
	ACLField:   ConfigACLs,
	TopicField: ConfigTopics,
}

// ConfigName returns the link config that the JSON of filters is a value of. It goes by the
// only field of the object, and does not look at what the field holds.
func ConfigName(text string) (name string, err error) {
	r, err := NewReader(text)
	if err != nil {
		return "", err
	}
	fields := slices.Sorted(maps.Keys(configs))
	what := "an object with one of the fields " + strings.Join(fields, ", ")
	start, err := r.delim('{', what)
	for err == nil && r.dec.More() {
		field, at, e := r.Str("the name of a field")
		switch config := configs[field]; {
		case e != nil:
			return "", e
		case config == "":
			return "", r.ErrorAt(at, "field %s is not allowed; allowed: one of %s", Clipped(field), strings.Join(fields, ", "))
		case name != "":
			return "", r.ErrorAt(at, "field %q is not allowed here: give only one of %s", field, strings.Join(fields, ", "))
		default:
			name, err = config, r.skip()
		}
	}
	if err == nil {
		_, err = r.delim('}', "a comma or }")
	}
	if err == nil {
		err = r.End()
	}
	switch {
	case err != nil:
		return "", err
	case name == "":
		return "", r.ErrorAt(start, "the object has no field; one of %s must be given", strings.Join(fields, ", "))
	}
	return name, nil
}
