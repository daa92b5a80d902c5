package kafkaclient

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseJAAS(t *testing.T) {
	const plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
	for _, c := range []struct {
		name, text string
		options    map[string]string
		err        string
	}{
		{"double quotes", plain + ` required username="u" password="p";`, map[string]string{"username": "u", "password": "p"}, ""},
		{"single quotes, other order", plain + ` required password='p' username='u' ;`, map[string]string{"username": "u", "password": "p"}, ""},
		{"other quote inside", plain + ` required username="it's" password='say "x"';`, map[string]string{"username": "it's", "password": `say "x"`}, ""},
		{"escapes", plain + ` required username="a\"b" password="\\\101\n\q";`, map[string]string{"username": `a"b`, "password": "\\A\nq"}, ""},
		{"octal stops at two digits above \\377", plain + ` required password="\400\7x";`, map[string]string{"password": " 0\ax"}, ""},
		{"equals and semicolon in quotes", plain + ` required username="a=b;c" password=";";`, map[string]string{"username": "a=b;c", "password": ";"}, ""},
		{"over several lines", plain + " required\n  username=\"u\"\n  password=\"p\";\n", map[string]string{"username": "u", "password": "p"}, ""},
		{"comments", plain + ` /* x = ; */ required username="u" // y` + "\n" + `password="p";`, map[string]string{"username": "u", "password": "p"}, ""},
		{"spaces around equals", plain + ` Required username = "u";`, map[string]string{"username": "u"}, ""},
		{"no quotes", plain + ` required username=user1 password=a-b.c;`, map[string]string{"username": "user1", "password": "a-b.c"}, ""},
		{"no options", plain + ` required;`, map[string]string{}, ""},
		{"empty", "  ", nil, "empty"},
		{"no control flag", plain + ` username="u" password="S3CRET";`, nil, "want required"},
		{"no semicolon", plain + ` required username="u" password="S3CRET"`, nil, "want a semicolon at the end"},
		{"two modules", plain + ` required password="S3CRET"; other required;`, nil, "text after the semicolon"},
		{"open quote", plain + ` required username="u" password="S3CRET;`, nil, "the quote is not closed"},
		{"open quote at a line's end", plain + " required password=\"S3CRET\n;", nil, "not closed on its line"},
		{"backslash at the end", plain + ` required password="S3CRET\`, nil, "not closed"},
		{"no value", plain + ` required username=;`, nil, "want a value after ="},
		{"value with a space", plain + ` required password=S3CRET S3CRET;`, nil, "needs quotes"},
		{"value with a special character", plain + ` required password=S3CRET!x;`, nil, "needs quotes"},
		{"open comment", plain + ` required /* S3CRET`, nil, "comment without an end"},
		{"class missing", `= required;`, nil, "want the class name"},
		{"not UTF-8", "a\xff", nil, "not UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			login, err := ParseJAAS(c.text)
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				require.NotContains(t, err.Error(), "S3CRET")
				return
			}
			require.NoError(t, err)
			require.Equal(t, Login{Module: plain, Control: "required", Options: c.options}, login)
		})
	}
}

func TestCredentials(t *testing.T) {
	const plain, scram = "org.apache.kafka.common.security.plain.PlainLoginModule", "org.apache.kafka.common.security.scram.ScramLoginModule"
	for _, c := range []struct {
		module, mechanism string
		options           map[string]string
		token             bool
		err               string
	}{
		{plain, "PLAIN", map[string]string{"username": "u", "password": "p"}, false, ""},
		{"kafkashaded." + plain, "PLAIN", map[string]string{"username": "u", "password": "p"}, false, ""},
		{scram, "SCRAM-SHA-512", map[string]string{"username": "u", "password": "p", "tokenauth": "true"}, true, ""},
		{scram, "PLAIN", map[string]string{"username": "u", "password": "p"}, false, "does not match sasl.mechanism PLAIN: want " + plain},
		{plain, "SCRAM-SHA-256", map[string]string{"username": "u", "password": "p"}, false, "want " + scram},
		{plain, "PLAIN", map[string]string{"username": "u"}, false, "option password is missing"},
		{plain, "PLAIN", map[string]string{"password": "p"}, false, "option username is missing"},
		{plain, "PLAIN", map[string]string{"username": "", "password": "p"}, false, "username is empty"},
	} {
		user, password, token, err := Login{Module: c.module, Options: c.options}.credentials(c.mechanism)
		if c.err != "" {
			require.ErrorContains(t, err, c.err)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, []any{"u", "p", c.token}, []any{user, password, token})
	}
}

func FuzzParseJAAS(f *testing.F) {
	f.Add(`a.B required username="u" password='p\'q\101';`)
	f.Add("a required /* x */ b // y\n=c;")
	f.Add(`"\`)
	f.Add("/*")
	f.Fuzz(func(t *testing.T, s string) {
		login, err := ParseJAAS(s)
		if err != nil {
			return
		}
		// A parsed login can be written with quotes and parsed again.
		var b strings.Builder
		b.WriteString(login.Module + " " + login.Control)
		for k, v := range login.Options {
			if strings.ContainsAny(v, "\r\n") {
				return // needs an escape, which the writer below does not know
			}
			b.WriteString(" " + k + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`)
		}
		b.WriteString(";")
		again, err := ParseJAAS(b.String())
		require.NoError(t, err, b.String())
		require.Equal(t, login, again)
	})
}
