package admin

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// nameFilters select groups, or topics: those that an INCLUDE filter matches and no EXCLUDE filter
// does.
type nameFilters []nameFilter

// nameFilter is one of them. The tags are the names of the fields in the JSON.
type nameFilter struct {
	Name        string      `json:"name"`        // "*" with LITERAL = every name
	PatternType patternType `json:"patternType"` // of Name
	FilterType  filterType  `json:"filterType"`
}

type patternType string

const (
	patternLiteral  patternType = "LITERAL"
	patternPrefixed patternType = "PREFIXED"
)

type filterType string

const (
	filterInclude filterType = "INCLUDE"
	filterExclude filterType = "EXCLUDE"
)

// The fields that hold the filters.
const (
	groupFiltersField = "groupFilters"
	topicFiltersField = "topicFilters"
	aclFiltersField   = "aclFilters"
)

// nameFilterForm shows people what the JSON of filters looks like.
func nameFilterForm(field string) string {
	return fmt.Sprintf(` {"%s":[{"name":"NAME","patternType":"LITERAL or PREFIXED","filterType":"INCLUDE or EXCLUDE"},...]}`, field)
}

// parseGroupFilters reads the value of consumer.offset.group.filters. An empty one has no filters.
func parseGroupFilters(text string) (nameFilters, error) {
	return parseNameFilters(text, groupFiltersField)
}

// parseTopicFilters reads the value of auto.create.mirror.topics.filters. An empty one has no
// filters.
func parseTopicFilters(text string) (nameFilters, error) {
	return parseNameFilters(text, topicFiltersField)
}

func parseNameFilters(text, field string) (filters nameFilters, err error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	r, err := newFilterReader(text)
	if err != nil {
		return nil, err
	}
	err = r.object("the value", []string{field}, func(string) error {
		return r.array("the value of "+field, func() error {
			f, err := readNameFilter(r)
			filters = append(filters, f)
			return err
		})
	})
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return nil, err
	}
	return filters, nil
}

func readNameFilter(r *filterReader) (f nameFilter, err error) {
	err = r.object("a filter", []string{"name", "patternType", "filterType"}, func(field string) (err error) {
		var word string
		switch field {
		case "name":
			var at int
			if f.Name, at, err = r.str("name"); err == nil && f.Name == "" {
				err = r.errorAt(at, `name is empty; use "*" with the patternType LITERAL for every name`)
			}
		case "patternType":
			word, err = r.word(field, string(patternLiteral), string(patternPrefixed))
			f.PatternType = patternType(word)
		case "filterType":
			word, err = r.word(field, string(filterInclude), string(filterExclude))
			f.FilterType = filterType(word)
		}
		return err
	})
	return f, err
}

// match reports whether the filters select a name.
func (f nameFilters) match(name string) (included bool) {
	for i := range f {
		if !f[i].matches(name) {
			continue
		}
		if f[i].FilterType == filterExclude {
			return false
		}
		included = true
	}
	return included
}

func (f *nameFilter) matches(name string) bool {
	if f.PatternType == patternPrefixed {
		return strings.HasPrefix(name, f.Name)
	}
	return f.Name == name || f.Name == "*"
}

// encode returns JSON that parseGroupFilters or parseTopicFilters reads as the same filters; field
// is groupFiltersField or topicFiltersField. Without filters it returns "".
func (f nameFilters) encode(field string) string {
	if len(f) == 0 {
		return ""
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // people read it
	// Strings into memory: this cannot fail.
	_ = e.Encode(map[string]nameFilters{field: f})
	return strings.TrimSpace(b.String())
}

// filterConfigs maps the only field of the object in a filter config's JSON to the name of that
// config.
var filterConfigs = map[string]string{
	groupFiltersField: ConfigGroupFilters,
	aclFiltersField:   ConfigACLFilters,
	topicFiltersField: ConfigAutoCreateFilters,
}

// FilterConfigName returns the link config that the JSON of filters is a value of. It goes by the
// only field of the object, and does not look at what the field holds.
func FilterConfigName(text string) (name string, err error) {
	r, err := newFilterReader(text)
	if err != nil {
		return "", err
	}
	fields := slices.Sorted(maps.Keys(filterConfigs))
	what := "an object with one of the fields " + strings.Join(fields, ", ")
	start, err := r.delim('{', what)
	for err == nil && r.dec.More() {
		field, at, e := r.str("the name of a field")
		switch config := filterConfigs[field]; {
		case e != nil:
			return "", e
		case config == "":
			return "", r.errorAt(at, "field %s is not allowed; allowed: one of %s", clipped(field), strings.Join(fields, ", "))
		case name != "":
			return "", r.errorAt(at, "field %q is not allowed here: give only one of %s", field, strings.Join(fields, ", "))
		default:
			name, err = config, r.skip()
		}
	}
	if err == nil {
		_, err = r.delim('}', "a comma or }")
	}
	if err == nil {
		err = r.end()
	}
	switch {
	case err != nil:
		return "", err
	case name == "":
		return "", r.errorAt(start, "the object has no field; one of %s must be given", strings.Join(fields, ", "))
	}
	return name, nil
}
