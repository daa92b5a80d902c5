package principal

import (
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// keywords are the attributes that RFC 2253 has a name for. All others are written as a number.
var keywords = map[string]string{
	"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "STREET", "2.5.4.10": "O", "2.5.4.11": "OU",
	"0.9.2342.19200300.100.1.1": "UID", "0.9.2342.19200300.100.1.25": "DC",
}

// attribute is one part of a name: its type, and its value as it is in the certificate.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// relativeSET is a set of attributes. encoding/asn1 knows by the end of its name that it is a SET.
type relativeSET []attribute

// errUnprintable refuses names that could pretend to be something else in a log line or a rule.
var errUnprintable = errors.New("the certificate's subject has a control character, a line separator, or text that is not UTF-8")

// Subject returns the subject of a certificate (RawSubject of an x509.Certificate) in the form that
// Java's X500Principal.getName returns, and that Kafka takes for the name of the principal: RFC
// 2253, the last part of the certificate first.
//
// It refuses subjects with control characters and line separators. Java writes them as they are,
// and what a dot or a dollar sign of a rule then matches differs between Java and Go.
func Subject(raw []byte) (string, error) {
	var name []relativeSET
	if rest, err := asn1.Unmarshal(raw, &name); err != nil || len(rest) > 0 {
		return "", errors.New("the certificate's subject is malformed")
	}
	var parts []string
	for _, relative := range slices.Backward(name) {
		var assertions []string
		for _, a := range relative {
			text, err := a.text()
			if err != nil {
				return "", err
			}
			assertions = append(assertions, text)
		}
		parts = append(parts, strings.Join(assertions, "+"))
	}
	return strings.Join(parts, ","), nil
}

// text returns TYPE=VALUE.
func (a attribute) text() (string, error) {
	keyword := keywords[a.Type.String()]
	if keyword == "" {
		// Without a keyword the value is the DER bytes, whatever their type.
		return a.Type.String() + "=#" + hex.EncodeToString(a.Value.FullBytes), nil
	}
	switch a.Value.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String:
		if a.Value.Class != asn1.ClassUniversal || a.Value.IsCompound {
			return "", errors.New("the certificate's subject is malformed")
		}
	default:
		return "", fmt.Errorf("the certificate's subject has its %s in an old encoding (ASN.1 type %d); klink takes UTF8String, PrintableString and IA5String", keyword, a.Value.Tag)
	}
	value := string(a.Value.Bytes)
	if !utf8.ValidString(value) || strings.ContainsFunc(value, unprintable) {
		return "", errUnprintable
	}
	return keyword + "=" + escape(value), nil
}

func unprintable(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029'
}

// escape escapes what has a meaning of its own in a name, and spaces at both ends.
func escape(value string) string {
	var b strings.Builder
	lead := len(value) - len(strings.TrimLeft(value, " "))
	trail := len(strings.TrimRight(value, " "))
	for i, r := range value {
		if i < lead || i >= trail || strings.ContainsRune(`,=+<>#;"\`, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
