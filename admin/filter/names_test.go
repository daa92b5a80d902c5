package filter

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// filterText is the JSON of filters written as "INCLUDE PREFIXED name".
func filterText(field string, filters ...string) string {
	var list []string
	for _, f := range filters {
		words := strings.SplitN(f, " ", 3)
		list = append(list, fmt.Sprintf(`{"name":%q,"patternType":%q,"filterType":%q}`, words[2], words[1], words[0]))
	}
	return fmt.Sprintf(`{%q:[%s]}`, field, strings.Join(list, ","))
}

func TestNameFiltersMatch(t *testing.T) {
	for _, c := range []struct {
		filters  []string
		yes, not string // names, separated by spaces
	}{
		{nil, "", "a * _"},
		{[]string{"INCLUDE LITERAL *"}, "a app-1 *", ""},
		{[]string{"include literal app"}, "app", "ap appx *"},
		{[]string{"INCLUDE PREFIXED app-"}, "app- app-1", "app xapp-1"},
		{[]string{"Include Prefixed *"}, "* *a", "a"},
		{[]string{"EXCLUDE LITERAL app"}, "", "app other"},
		{[]string{"INCLUDE LITERAL *", "EXCLUDE PREFIXED test-"}, "app testing", "test- test-1"},
		{[]string{"EXCLUDE LITERAL app-2", "INCLUDE PREFIXED app-"}, "app-1 app-22", "app-2"},
		{[]string{"INCLUDE LITERAL app", "EXCLUDE LITERAL *"}, "", "app other"},
	} {
		for field, parse := range map[string]func(string) (Names, error){"groupFilters": ParseGroups, "topicFilters": ParseTopics} {
			f, err := parse(filterText(field, c.filters...))
			require.NoError(t, err)
			for name := range strings.FieldsSeq(c.yes) {
				require.True(t, f.Match(name), "%v %s", c.filters, name)
			}
			for name := range strings.FieldsSeq(c.not) {
				require.False(t, f.Match(name), "%v %s", c.filters, name)
			}
		}
	}
}

// TestFilterTextRefused: the error for a bad filter says where in the text it is.
func TestFilterTextRefused(t *testing.T) {
	const good = `{"name":"a","patternType":"LITERAL","filterType":"INCLUDE"}`
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{" \n ", ""},
		{`{"groupFilters":[]}`, ""},
		{`{"groupFilters":[` + good + `,` + good + `]}` + "\n", ""},
		{`{`, "line 1, column 2: the text ends where"},
		{`{}`, `line 1, column 1: the value must have the field "groupFilters"`},
		{`[]`, "line 1, column 1: the value, {...}, is expected"},
		{`null`, "line 1, column 1: the value, {...}, is expected"},
		{`groups`, "line 1, column 1: invalid character 'g'"},
		{`{"groupFilters":null}`, "line 1, column 17: the value of groupFilters, [...], is expected"},
		{`{"topicFilters":[]}`, `line 1, column 2: the value has no field "topicFilters"; allowed: groupFilters`},
		{`{"groupFilters":[],"groupFilters":[]}`, `line 1, column 20: duplicate field "groupFilters"`},
		{`{"groupFilters":[` + good + `]} x`, "line 1, column 80: unexpected text after the end"},
		{`{"groupFilters":[]}{"groupFilters":[]}`, "line 1, column 20: unexpected text after"},
		{`{"groupFilters":[]},`, "line 1, column 20: unexpected text after"},
		{`{"groupFilters":[],}`, "line 1, column 20: invalid character '}'"},
		{`{"groupFilters":[` + good + `,]}`, "line 1, column 78: invalid character ']'"},
		{`{"groupFilters":[` + good + good + `]}`, "line 1, column 77: invalid character '{'"},
		{`{"groupFilters":["a"]}`, "line 1, column 18: a filter, {...}, is expected"},
		{"{\"groupFilters\":[\n  {\"name\":\"ä\", \"pattern\":\"x\"}]}", `line 2, column 16: a filter has no field "pattern"; allowed: name, patternType, filterType`},
		{"{\"groupFilters\":[\n" + good + ",\n {\"patternType\":\"LITERAL\",\"filterType\":\"INCLUDE\"}]}", `line 3, column 2: a filter must have the field "name"`},
		{`{"groupFilters":[{"name":"a","filterType":"INCLUDE"}]}`, `line 1, column 18: a filter must have the field "patternType"`},
		{`{"groupFilters":[{"name":"a","patternType":"LITERAL"}]}`, `line 1, column 18: a filter must have the field "filterType"`},
		{`{"groupFilters":[{"name":""}]}`, `line 1, column 26: name is empty`},
		{`{"groupFilters":[{"name":1}]}`, `line 1, column 26: name must be a string`},
		{`{"groupFilters":[{"name":"a","name":"b"}]}`, `line 1, column 30: duplicate field "name"`},
		{`{"groupFilters":[{"name":"a","patternType":"REGEX"}]}`, `line 1, column 44: patternType "REGEX" is not allowed; allowed: LITERAL, PREFIXED`},
		{`{"groupFilters":[{"name":"a","filterType":"ALLOW"}]}`, `line 1, column 43: filterType "ALLOW" is not allowed; allowed: INCLUDE, EXCLUDE`},
		{"{\"groupFilters\":[{\"name\":\"\xff\"}]}", "line 1, column 27: the text is not UTF-8"},
		{`{"groupFilters":[` + strings.Repeat(good+",", maxFilters) + good + `]}`, "more than 4000 filters"},
		{`{"groupFilters":[` + strings.Repeat(" ", MaxValue) + `]}`, "at most 262144 are allowed"},
		{strings.Repeat(`{"groupFilters":`, 10000), "line 1, column 17: the value of groupFilters, [...], is expected"},
	} {
		f, err := ParseGroups(c.text)
		if c.want == "" {
			require.NoError(t, err, c.text)
			continue
		}
		require.ErrorContains(t, err, c.want)
		require.Nil(t, f)
	}
}

// TestFilterConfigName: the only field of the JSON tells which config it is the value of.
func TestFilterConfigName(t *testing.T) {
	for _, c := range []struct{ text, name, err string }{
		{`{"groupFilters":[]}`, ConfigGroups, ""},
		{` {"aclFilters": [{"any": {"thing": [1, "}"]}}] } `, ConfigACLs, ""},
		{`{"topicFilters":null}`, ConfigTopics, ""},
		{`{}`, "", "line 1, column 1: the object has no field; one of aclFilters, groupFilters, topicFilters must be given"},
		{`{"filters":[]}`, "", `line 1, column 2: field "filters" is not allowed; allowed: one of aclFilters, groupFilters, topicFilters`},
		{`{"groupFilters":[],"aclFilters":[]}`, "", `line 1, column 20: field "aclFilters" is not allowed here`},
		{`{"groupFilters":[],"groupFilters":[]}`, "", `field "groupFilters" is not allowed here`},
		{`{"groupFilters":[}`, "", "line 1, column 17: invalid character '}'"},
		{`{"groupFilters":[`, "", "line 1, column 18: the text ends"},
		{`{"groupFilters":`, "", "line 1, column 17: the text ends"},
		{`{"groupFilters":[]`, "", "line 1, column 19: the text ends"},
		{`{"groupFilters":[]} {}`, "", "line 1, column 21: unexpected text after"},
		{`{1:2}`, "", "line 1, column 2"},
		{``, "", "line 1, column 1"},
		{`[]`, "", "line 1, column 1"},
	} {
		name, err := ConfigName(c.text)
		if c.err == "" {
			require.NoError(t, err, c.text)
		} else {
			require.ErrorContains(t, err, c.err, c.text)
		}
		require.Equal(t, c.name, name, c.text)
	}
}

func FuzzNameFilters(f *testing.F) {
	f.Add(filterText("topicFilters", "INCLUDE LITERAL *", "exclude PREFIXED a"), "b")
	f.Add(`{"topicFilters":[{"name":"\ud800`, "")
	f.Add("{\"topicFilters\":[\n,:{", "")
	f.Fuzz(func(t *testing.T, text, name string) {
		filters, err := ParseTopics(text)
		if config, alone := ConfigName(text); err == nil && strings.TrimSpace(text) != "" && (alone != nil || config != ConfigTopics) {
			t.Fatalf("%q: %v", text, alone)
		}
		if err != nil {
			return
		}
		again, err := ParseTopics(filters.Encode(TopicField))
		if err != nil || len(again) != len(filters) {
			t.Fatalf("%q: %v, %v", filters.Encode(TopicField), again, err)
		}
		for i := range again {
			if again[i] != filters[i] {
				t.Fatalf("%v became %v", filters[i], again[i])
			}
		}
		if filters.Match(name) && !again.Match(name) {
			t.Fatalf("%q", name)
		}
	})
}
