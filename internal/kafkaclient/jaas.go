package kafkaclient

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Login is the one entry of a sasl.jaas.config value:
//
//	org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password='p';
type Login struct {
	Module  string            // class name
	Control string            // required, requisite, sufficient or optional, in lower case; klink ignores it
	Options map[string]string // without quotes and escapes
}

var controlFlags = []string{"required", "requisite", "sufficient", "optional"}

// ParseJAAS reads the value of sasl.jaas.config as Kafka's JaasConfig does: tokens of
// java.io.StreamTokenizer, comments allowed, one login module, a semicolon at the end. Unlike Kafka
// it also accepts digits and dots in a value without quotes. Errors give positions (in characters,
// from 1), never text: any part of the value may be a secret.
func ParseJAAS(s string) (Login, error) {
	if !utf8.ValidString(s) {
		return Login{}, errors.New("not UTF-8")
	}
	t := &jaasTokens{text: []rune(s)}
	var login Login
	module, err := t.next()
	if err != nil {
		return login, err
	}
	if module.kind == tokenEnd {
		return login, errors.New("empty: want CLASS required username=\"...\" password=\"...\";")
	}
	if module.kind != tokenWord {
		return login, fmt.Errorf("character %d: want the class name of a login module", module.at)
	}
	login.Module = module.text
	control, err := t.next()
	if err != nil {
		return login, err
	}
	if control.kind != tokenWord || !slices.Contains(controlFlags, strings.ToLower(control.text)) {
		return login, fmt.Errorf("character %d: want %s after the class name of the login module", control.at, strings.Join(controlFlags, ", "))
	}
	login.Control = strings.ToLower(control.text)
	login.Options = map[string]string{}
	for {
		key, err := t.next()
		if err != nil {
			return login, err
		}
		switch key.kind {
		case tokenSemicolon:
			end, err := t.next()
			if err != nil {
				return login, err
			}
			if end.kind != tokenEnd {
				return login, fmt.Errorf("character %d: text after the semicolon: want one login module", end.at)
			}
			return login, nil
		case tokenEnd:
			return login, fmt.Errorf("character %d: want a semicolon at the end", key.at)
		case tokenWord:
		default:
			return login, fmt.Errorf("character %d: want the name of an option, or a semicolon; a value with special characters needs quotes", key.at)
		}
		equals, err := t.next()
		if err != nil {
			return login, err
		}
		if equals.kind != tokenEquals {
			return login, fmt.Errorf("character %d: want = after the name of an option; a value with spaces needs quotes", equals.at)
		}
		value, err := t.next()
		if err != nil {
			return login, err
		}
		if value.kind != tokenWord && value.kind != tokenString {
			return login, fmt.Errorf("character %d: want a value after =", value.at)
		}
		login.Options[key.text] = value.text
	}
}

// module refuses a login module that is not the one of a SASL mechanism.
func (l Login) module(mechanism, want string) error {
	last := func(class string) string { return class[strings.LastIndexByte(class, '.')+1:] }
	// Compare only the last part: shaded clients have their own package names.
	if last(l.Module) != last(want) {
		return fmt.Errorf("the login module does not match sasl.mechanism %s: want %s", mechanism, want)
	}
	return nil
}

// credentials returns user and password for a SASL mechanism that has them. token reports whether
// they are those of a delegation token.
func (l Login) credentials(mechanism string) (user, password string, token bool, err error) {
	class := "org.apache.kafka.common.security.scram.ScramLoginModule"
	if mechanism == mechanismPlain {
		class = "org.apache.kafka.common.security.plain.PlainLoginModule"
	}
	if err := l.module(mechanism, class); err != nil {
		return "", "", false, err
	}
	for _, key := range []string{"username", "password"} {
		if _, ok := l.Options[key]; !ok {
			return "", "", false, fmt.Errorf("option %s is missing", key)
		}
	}
	if l.Options["username"] == "" {
		return "", "", false, errors.New("option username is empty")
	}
	return l.Options["username"], l.Options["password"], strings.EqualFold(l.Options["tokenauth"], "true"), nil
}
