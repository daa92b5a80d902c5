package kafkaclient

import (
	"fmt"
	"strings"
	"unicode"
)

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenWord
	tokenString // quoted
	tokenEquals
	tokenSemicolon
	tokenOther
)

type token struct {
	kind tokenKind
	text string
	at   int // position of its first character, from 1
}

// jaasTokens splits a JAAS entry into tokens as java.io.StreamTokenizer does with the settings of
// Kafka's JaasConfig.
type jaasTokens struct {
	text []rune
	pos  int
}

func (t *jaasTokens) next() (token, error) {
	if err := t.skipSpace(); err != nil {
		return token{}, err
	}
	at := t.pos + 1
	if t.pos == len(t.text) {
		return token{kind: tokenEnd, at: at}, nil
	}
	switch r := t.text[t.pos]; {
	case r == '=':
		t.pos++
		return token{kind: tokenEquals, at: at}, nil
	case r == ';':
		t.pos++
		return token{kind: tokenSemicolon, at: at}, nil
	case r == '"' || r == '\'':
		s, err := t.quoted(r)
		return token{kind: tokenString, text: s, at: at}, err
	case isWord(r):
		start := t.pos
		for t.pos < len(t.text) && isWord(t.text[t.pos]) {
			t.pos++
		}
		return token{kind: tokenWord, text: string(t.text[start:t.pos]), at: at}, nil
	default:
		t.pos++
		return token{kind: tokenOther, at: at}, nil
	}
}

func isWord(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._-$", r)
}

// skipSpace skips white space, // and /* */ comments.
func (t *jaasTokens) skipSpace() error {
	for t.pos < len(t.text) {
		switch {
		case t.text[t.pos] <= ' ':
			t.pos++
		case t.at("//"):
			for t.pos < len(t.text) && t.text[t.pos] != '\n' && t.text[t.pos] != '\r' {
				t.pos++
			}
		case t.at("/*"):
			start := t.pos + 1
			for t.pos += 2; !t.at("*/"); t.pos++ {
				if t.pos >= len(t.text) {
					return fmt.Errorf("character %d: comment without an end", start)
				}
			}
			t.pos += 2
		default:
			return nil
		}
	}
	return nil
}

func (t *jaasTokens) at(s string) bool {
	return t.pos+len(s) <= len(t.text) && string(t.text[t.pos:t.pos+len(s)]) == s
}

// quoted reads a string in quotes with the escapes of StreamTokenizer: \n and the like, up to three
// octal digits, and any other character as itself.
func (t *jaasTokens) quoted(quote rune) (string, error) {
	start := t.pos + 1
	var b strings.Builder
	for t.pos++; t.pos < len(t.text); t.pos++ {
		r := t.text[t.pos]
		switch r {
		case quote:
			t.pos++
			return b.String(), nil
		case '\n', '\r':
			return "", fmt.Errorf("character %d: the quote is not closed on its line", start)
		case '\\':
			t.pos++
			if t.pos == len(t.text) {
				return "", fmt.Errorf("character %d: the quote is not closed", start)
			}
			b.WriteRune(t.escaped())
		default:
			b.WriteRune(r)
		}
	}
	return "", fmt.Errorf("character %d: the quote is not closed", start)
}

// escaped returns the meaning of the escape whose first character is at pos. It leaves pos at the
// last character that it used.
func (t *jaasTokens) escaped() rune {
	r := t.text[t.pos]
	if r >= '0' && r <= '7' {
		// As in StreamTokenizer: a third digit only while the value stays below 256.
		v, digits := r-'0', 1
		for digits < 3 && t.pos+1 < len(t.text) && (digits < 2 || r <= '3') {
			d := t.text[t.pos+1]
			if d < '0' || d > '7' {
				break
			}
			v, digits = v*8+d-'0', digits+1
			t.pos++
		}
		return v
	}
	if i := strings.IndexRune("abfnrtv", r); i >= 0 {
		return rune("\a\b\f\n\r\t\v"[i])
	}
	return r
}
