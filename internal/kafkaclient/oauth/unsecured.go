package oauth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The options of the login module from which Kafka's default callback handler makes tokens, for
// development only ("Unsecured Token Creation Options" in Kafka's documentation).
const (
	unsecured          = "unsecuredLogin"
	unsecuredString    = unsecured + "StringClaim_"
	unsecuredNumber    = unsecured + "NumberClaim_"
	unsecuredList      = unsecured + "ListClaim_"
	unsecuredPrincipal = unsecured + "PrincipalClaimName"
	unsecuredScope     = unsecured + "ScopeClaimName"
	unsecuredLifetime  = unsecured + "LifetimeSeconds"
	// UnsecuredExtension begins the options that are SASL extensions.
	UnsecuredExtension = unsecured + "Extension_"
)

// Unsecured returns the way to make tokens without a signature from the options of the login
// module. Brokers take them only if they are set up for development.
func Unsecured(options map[string]string) (Fetch, error) {
	lifetime, principal := time.Hour, "sub"
	claims := map[string]any{}
	for name, value := range options {
		text, isText := strings.CutPrefix(name, unsecuredString)
		number, isNumber := strings.CutPrefix(name, unsecuredNumber)
		list, isList := strings.CutPrefix(name, unsecuredList)
		switch {
		case name == unsecuredPrincipal:
			principal = value
		case name == unsecuredLifetime:
			n, err := strconv.ParseInt(value, 10, 32)
			if err != nil || n < 1 {
				return nil, errors.New("option " + unsecuredLifetime + ": want a number of seconds")
			}
			lifetime = time.Duration(n) * time.Second
		case isText:
			claims[text] = value
		case isNumber:
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return nil, fmt.Errorf("option %s: want a number", name)
			}
			claims[number] = n
		case isList && value != "":
			// The first character separates the values.
			claims[list] = strings.Split(value[1:], value[:1])
		case name == unsecuredScope, strings.HasPrefix(name, UnsecuredExtension):
		case strings.HasPrefix(name, unsecured):
			return nil, fmt.Errorf("option %.80s: klink does not know it", name)
		}
	}
	if who, _ := claims[principal].(string); who == "" {
		return nil, fmt.Errorf("option %s%.80s is missing: without a token endpoint it names the user of an unsecured token", unsecuredString, principal)
	}
	for _, name := range []string{"iat", "exp"} {
		if _, given := claims[name]; given {
			return nil, fmt.Errorf("the claim %s cannot be set", name)
		}
	}
	return func(context.Context) (Token, error) {
		now := time.Now()
		t := Token{Issued: now, Expires: now.Add(lifetime)}
		all := map[string]any{"iat": float64(t.Issued.UnixMilli()) / 1000, "exp": float64(t.Expires.UnixMilli()) / 1000}
		for name, value := range claims {
			all[name] = value
		}
		payload, err := json.Marshal(all)
		if err != nil {
			return t, refused("the claims of the unsecured token cannot be written")
		}
		encode := base64.RawURLEncoding.EncodeToString
		t.Value = encode([]byte(`{"alg":"none"}`)) + "." + encode(payload) + "."
		return t, nil
	}, nil
}
