package principal

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

// Rules map the subject of a certificate to the name of a principal, as a broker with
// ssl.principal.mapping.rules does.
type Rules []rule

type rule struct {
	original    bool // DEFAULT: the name as it is
	pattern     *regexp.Regexp
	whole       *regexp.Regexp // the pattern, matching all of the text
	atEnd       *regexp.Regexp // the pattern, matching nothing at the end of the text
	replacement []part
	lower       bool
	upper       bool
}

// part of a replacement: text, or a group of the pattern.
type part struct {
	text  string
	group int // 0 = text
}

// ErrNoRule refuses a name that no rule matches.
var ErrNoRule = errors.New("no rule of --ssl-principal-mapping-rules matches the certificate's subject")

// errManyMatches refuses what a broker would make several matches of.
var errManyMatches = errors.New("a rule of --ssl-principal-mapping-rules matches only a part of the certificate's subject at first, although it could match all: " +
	"begin its pattern with ^ and end it with $")

var (
	// Both are Kafka's own (SslPrincipalMapper).
	ruleSplitter = regexp.MustCompile(`^\s*(` + rulePattern + `)\s*(,\s*|$)`)
	ruleParser   = regexp.MustCompile(`^(?:` + rulePattern + `)$`)
)

const rulePattern = `(DEFAULT)|RULE:((?:\\.|[^\\/])*)/((?:\\.|[^\\/])*)/([LU]?)`

// ParseRules reads rules in Kafka's syntax: DEFAULT, or RULE:pattern/replacement/ with L or U
// behind it for lower or upper case, separated by commas. The first rule that matches counts.
//
// Kafka's patterns are Java's. What Go's regular expressions do not have, or understand in another
// way, is an error.
func ParseRules(text string) (Rules, error) {
	var rules Rules
	for rest := text; strings.TrimSpace(rest) != ""; {
		m := ruleSplitter.FindStringSubmatch(rest)
		if m == nil {
			return nil, fmt.Errorf("rule %d is neither DEFAULT nor RULE:pattern/replacement/ with L, U or nothing behind it", len(rules)+1)
		}
		rest = rest[len(m[0]):]
		r, err := parseRule(m[1])
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", len(rules)+1, err)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func parseRule(text string) (r rule, err error) {
	m := ruleParser.FindStringSubmatch(text)
	if m[1] != "" {
		return rule{original: true}, nil
	}
	if err := sameInJava(m[2]); err != nil {
		return rule{}, err
	}
	if r.pattern, err = regexp.Compile(m[2]); err != nil {
		return rule{}, fmt.Errorf("klink cannot use the pattern, which may have something that only Java's regular expressions have: %w", err)
	}
	// The groups keep flags within the pattern where they are.
	r.whole = regexp.MustCompile(`\A(?:` + m[2] + `)\z`)
	r.atEnd = regexp.MustCompile(`\z(?:` + m[2] + `)`)
	r.replacement, err = parseReplacement(m[3], r.pattern.NumSubexp())
	r.lower, r.upper = m[4] == "L", m[4] == "U"
	return r, err
}

// sameInJava refuses what both Java and Go take, with another meaning.
func sameInJava(pattern string) error {
	class := false // within [ ]
	for i := 0; i < len(pattern); i++ {
		rest := pattern[i:]
		switch {
		case strings.HasPrefix(rest, `\Q`):
			return errors.New(`the pattern has \Q, which klink does not support: escape each character`)
		case strings.HasPrefix(rest, `\v`), strings.HasPrefix(rest, `\b`), strings.HasPrefix(rest, `\B`), strings.HasPrefix(rest, `\0`):
			return fmt.Errorf("the pattern has %s, which means something else in Java", rest[:2])
		case rest[0] == '\\':
			i++
		case class && (rest[0] == '[' || strings.HasPrefix(rest, "&&")):
			return errors.New("the pattern has a character class within another, which only Java's regular expressions have")
		case class && rest[0] == ']':
			class = false
		case class:
		case rest[0] == '[':
			class = true
			if strings.HasPrefix(rest, "[]") || strings.HasPrefix(rest, "[^]") {
				return errors.New(`the pattern has a character class that begins with ], which means something else in Java: write \]`)
			}
		case strings.HasPrefix(rest, "(?") && !strings.HasPrefix(rest, "(?:") && !strings.HasPrefix(rest, "(?<"):
			return errors.New("the pattern has a flag or a kind of group that Go does not have, or understands in another way")
		case rest[0] == '{' && (len(rest) == 1 || rest[1] < '0' || rest[1] > '9'):
			return errors.New(`the pattern has a { that repeats nothing: write \{`)
		}
	}
	return nil
}

// parseReplacement reads the replacement as Java's Matcher.appendReplacement does: $1 is a group,
// and \x is x. Like Kafka it takes a reference to a group that does not exist as text.
func parseReplacement(text string, groups int) (parts []part, err error) {
	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			parts = append(parts, part{text: literal.String()})
			literal.Reset()
		}
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			if i++; i == len(text) {
				return nil, errors.New("the replacement ends with a backslash")
			}
			literal.WriteByte(text[i])
		case c == '$':
			n, at := 0, i+1
			for at < len(text) && text[at] >= '0' && text[at] <= '9' && n*10+int(text[at]-'0') <= groups {
				n = n*10 + int(text[at]-'0')
				at++
			}
			switch {
			case n > 0:
				flush()
				parts = append(parts, part{group: n})
				i = at - 1
			case i+1 < len(text) && text[i+1] >= '1' && text[i+1] <= '9':
				literal.WriteByte(c)
			default:
				return nil, errors.New("the replacement has a $ without the number of a group behind it")
			}
		default:
			literal.WriteByte(c)
		}
	}
	flush()
	return parts, nil
}

// Name returns what the rules make of the subject of a certificate: without rules, the subject.
func (r Rules) Name(subject string) (string, error) {
	if len(r) == 0 {
		return subject, nil
	}
	for _, one := range r {
		if name, ok, err := one.apply(subject); ok || err != nil {
			return name, err
		}
	}
	return "", ErrNoRule
}

func (r rule) apply(subject string) (name string, ok bool, err error) {
	if r.original {
		return subject, true, nil
	}
	if !r.whole.MatchString(subject) {
		return "", false, nil
	}
	// Kafka asks whether the pattern matches all of the name, and then replaces each match in it.
	m := r.pattern.FindStringSubmatchIndex(subject)
	if m[0] != 0 || m[1] != len(subject) {
		return "", false, errManyMatches
	}
	var b strings.Builder
	r.expand(&b, subject, m)
	// Java finds an empty match right behind another one, Go does not.
	if m := r.atEnd.FindStringSubmatchIndex(subject); m != nil && len(subject) > 0 {
		r.expand(&b, subject, m)
	}
	switch name = b.String(); {
	case r.lower:
		name = cases.Lower(language.English).String(name)
	case r.upper:
		name = cases.Upper(language.English).String(name)
	}
	return name, true, nil
}

func (r rule) expand(b *strings.Builder, subject string, match []int) {
	for _, p := range r.replacement {
		if p.group == 0 {
			b.WriteString(p.text)
		} else if from := match[2*p.group]; from >= 0 {
			b.WriteString(subject[from:match[2*p.group+1]])
		}
	}
}
