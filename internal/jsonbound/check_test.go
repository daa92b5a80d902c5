package jsonbound

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	l := Limits{Bytes: 1000, Depth: 3, Values: 20}
	for text, good := range map[string]bool{
		``: true, `null`: true, `{}`: true, `[[[]]]`: true, `{"a":{"b":[1]}}`: true,
		`[[[[]]]]`:                        false,
		`{"a":{"b":{"c":{}}}}`:            false,
		`"[[[[[[[["`:                      true,
		`"\"[[[[[[["`:                     true,
		`"\\"`:                            true,
		`["\\",[[[]]]]`:                   false,
		`"`:                               true,
		`"\`:                              true,
		`[[[[`:                            false,
		`]]]]]]][[[[[[[[`:                 false, // whatever a decoder makes of it
		strings.Repeat(" ", 1000):         true,
		strings.Repeat(" ", 1001):         false,
		"[" + strings.Repeat("1,", 30):    false,
		"[" + strings.Repeat(",", 30):     false,
		"[" + strings.Repeat("[],", 30):   false,
		"{" + strings.Repeat(`"":`, 30):   false,
		`"` + strings.Repeat(",", 900):    true,
		"[1,2,3,4,5,6,7,8,9,10,11,12,13]": true,
	} {
		if err := Check([]byte(text), l); (err == nil) != good {
			t.Errorf("%.60s: %v", text, err)
		}
	}
	text := []byte(`{"version":1,"name":"\"x","list":[1,2,[3]]}`)
	if n := testing.AllocsPerRun(100, func() { _ = Check(text, l) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// JSON that passes the check never decodes to more values, or deeper, than the limits allow.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{`{"a":[1,"\\",{"b":null}]}`, `[[[]]]`, `"\"["`, `{"a":1,"a":2}`, "[1,\n2]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l := Limits{Bytes: 300, Depth: 4, Values: 12}
		if Check(text, l) != nil {
			return
		}
		d := json.NewDecoder(bytes.NewReader(text))
		depth, values := 0, 0
		for {
			token, err := d.Token()
			if err != nil {
				return
			}
			switch token {
			case json.Delim('['), json.Delim('{'):
				depth++
				values++
			case json.Delim(']'), json.Delim('}'):
				depth--
			default:
				values++
			}
			if depth > l.Depth {
				t.Fatalf("%q is nested %d deep", text, depth)
			}
			if values > l.Values && json.Valid(text) {
				t.Fatalf("%q has %d values", text, values)
			}
		}
	})
}
