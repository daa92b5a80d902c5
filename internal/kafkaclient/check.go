package kafkaclient

import (
	"fmt"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Treat says what klink does with one property, and if it refuses the property, why. The reason
// never contains the value.
func Treat(key, value string) (t Treatment, why string) {
	r := find(key)
	switch value = strings.TrimSpace(value); {
	case r == nil:
		return Unknown, ""
	case r.treatment == Refused && value != "":
		return Refused, r.note
	case r.treatment == Refused:
		return NoDifference, ""
	case r.only != nil && value != "" && !IsReference(value) && !containsFold(r.only, value):
		return Refused, fmt.Sprintf("%s: leave it out, or set it to %s", r.note, strings.Join(r.only, " or "))
	}
	return r.treatment, ""
}

func containsFold(values []string, value string) bool {
	return slices.ContainsFunc(values, func(v string) bool { return strings.EqualFold(v, value) })
}

// Check refuses properties that klink does not know, and those that it cannot do without harm to
// security. It returns the properties that make a difference, and the names of those that do not.
// It does not look at the values of properties that every client has: Options does.
func (p Properties) Check() (used Properties, ignored []string, err error) {
	used = Properties{}
	for _, key := range slices.Sorted(maps.Keys(p)) {
		switch t, why := Treat(key, p[key]); t {
		case Unknown:
			return nil, nil, fmt.Errorf("unknown client property %s%s", shownKey(key), suggestion(key))
		case Refused:
			return nil, nil, fmt.Errorf("%s: %s", key, why)
		case NoDifference:
			ignored = append(ignored, key)
		default:
			used[key] = p[key]
		}
	}
	_, err = p.providers()
	return used, ignored, err
}

// keyForm is the form of a key. Something else may be a line that a broken value left behind, such
// as a line of a private key.
var keyForm = regexp.MustCompile(`^[a-z][a-z0-9]*([._-][a-z0-9]+)+$`)

// shownKey returns an unknown key for an error.
func shownKey(key string) string {
	if len(key) <= 80 && keyForm.MatchString(key) || nearestKey(key) != "" {
		return key
	}
	return "(not shown: it does not look like one; does the line before it lack a \\ at its end?)"
}

// foreignPrefixes are what other programs put before the properties of a client.
var foreignPrefixes = []string{"consumer.", "producer.", "admin.", "client.", "consumer.override.", "producer.override.", "admin.override.", "kafka.", "spring.kafka.properties."}

// suggestion says for an unknown key what was probably meant.
func suggestion(key string) string {
	for _, prefix := range foreignPrefixes {
		if rest, ok := strings.CutPrefix(key, prefix); ok && find(rest) != nil {
			return fmt.Sprintf("; klink takes client properties without the prefix %s of other programs: did you mean %s?", prefix, rest)
		}
	}
	if near := nearestKey(key); near != "" {
		return "; did you mean " + near + "?"
	}
	return "; docs/configs.md lists the ones that klink knows"
}

func nearestKey(key string) string {
	return Nearest(strings.ToLower(key), slices.Values(slices.Sorted(maps.Keys(ruleOf))))
}

// Nearest returns the name that was probably meant by another one; "" if none is near.
func Nearest(name string, names iter.Seq[string]) string {
	best, distance := "", len(name)/3+1
	for n := range names {
		if strings.HasSuffix(n, "*") {
			continue
		}
		if d := editDistance(name, n); d < distance {
			best, distance = n, d
		}
	}
	return best
}

// editDistance returns the Levenshtein distance in bytes. An a that is longer than any key is far
// from all of them.
func editDistance(a, b string) int {
	if len(a) > 128 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d++
			}
			diagonal = row[j+1]
			row[j+1] = min(d, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
