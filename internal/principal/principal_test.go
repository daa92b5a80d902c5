package principal

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"klink/internal/kafkatest"
)

func value(tag int, text string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassUniversal, Tag: tag, Bytes: []byte(text)}
}

func oid(n ...int) asn1.ObjectIdentifier { return n }

// subjects are names as certificates have them, in their order.
var subjects = [][]relativeSET{
	{},
	{{{oid(2, 5, 4, 3), value(asn1.TagUTF8String, "alice")}}},
	{{{oid(2, 5, 4, 6), value(asn1.TagPrintableString, "DE")}}, {{oid(2, 5, 4, 10), value(asn1.TagUTF8String, "Shop, Inc")}}, {{oid(2, 5, 4, 3), value(asn1.TagUTF8String, "alice")}}},
	{{{oid(2, 5, 4, 3), value(asn1.TagUTF8String, "  a b  ")}}, {{oid(2, 5, 4, 11), value(asn1.TagUTF8String, "   ")}}},
	{{{oid(2, 5, 4, 3), value(asn1.TagUTF8String, `a,b=c+d<e>f#g;h"i\j/k'l`)}}},
	{{{oid(2, 5, 4, 3), value(asn1.TagUTF8String, "#sharp")}}, {{oid(2, 5, 4, 7), value(asn1.TagUTF8String, "Köln 東京 é")}}},
	{{{oid(2, 5, 4, 3), value(asn1.TagUTF8String, "alice")}, {oid(2, 5, 4, 11), value(asn1.TagUTF8String, "data")}}},
	{{{oid(1, 2, 840, 113549, 1, 9, 1), value(asn1.TagIA5String, "a@b.example")}}, {{oid(2, 5, 4, 5), value(asn1.TagPrintableString, "1234")}}},
	{{{oid(0, 9, 2342, 19200300, 100, 1, 25), value(asn1.TagIA5String, "example")}}, {{oid(0, 9, 2342, 19200300, 100, 1, 1), value(asn1.TagUTF8String, "u1")}}},
	{{{oid(2, 5, 4, 9), value(asn1.TagUTF8String, "Street 1")}}, {{oid(2, 5, 4, 8), value(asn1.TagUTF8String, "State")}}, {{oid(2, 5, 4, 4), value(asn1.TagUTF8String, "Sur")}}},
	{{{oid(2, 5, 4, 3), value(asn1.TagUTF8String, "")}}},
}

// rules are rules, and names to map by them, together with whether klink refuses the rule. The
// names are those of subjects, and some more.
var rules = []string{
	"DEFAULT",
	"RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/",
	"RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/L, DEFAULT",
	"RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/U",
	"RULE:^CN=([^,]*).*$/$1/L,RULE:^OU=(.*)$/$1/",
	"RULE:.*/x/",
	"RULE:(.*)/$1-$2/",
	`RULE:^CN=(\w+)$/user-\$1\\$1/`,
	`RULE:^CN=(.*),O=Shop\\, Inc,C=DE$/$1/`,
	`RULE:^(.*)$/$1/U`,
	`RULE:^(CN|OU)=([^,+]*)[,+]?.*$/$2/L , RULE:^(.*)$/$11/`,
}

var names = []string{
	"CN=alice,OU=ServiceUsers,O=Shop", "CN=Adam.B,OU=x,O=y,L=z,ST=s,C=DE", "CN=STRASSE straße Σας İI", "OU=x", "", `CN=a\,b,OU=c`, "CN=alice",
}

const javaProgram = `
import java.nio.file.*; import java.util.*; import java.util.regex.*; import javax.security.auth.x500.X500Principal;
public class Names {
  static String text(String s) { return Base64.getEncoder().encodeToString(s.getBytes(java.nio.charset.StandardCharsets.UTF_8)); }
  static String of(String s) { return new String(Base64.getDecoder().decode(s), java.nio.charset.StandardCharsets.UTF_8); }
  public static void main(String[] args) throws Exception {
    for (String line : Files.readAllLines(Path.of(args[0]))) {
      String[] f = line.split(" ", -1);
      if (f[0].equals("subject")) { System.out.println(text(new X500Principal(Base64.getDecoder().decode(f[1])).getName())); continue; }
      try {
        Class<?> c = Class.forName("org.apache.kafka.common.security.ssl.SslPrincipalMapper");
        Object m = c.getMethod("fromRules", String.class).invoke(null, of(f[1]));
        System.out.println(text("=" + c.getMethod("getName", String.class).invoke(m, of(f[2]))));
      } catch (java.lang.reflect.InvocationTargetException e) { System.out.println(text("!" + e.getCause().getClass().getSimpleName())); }
    }
  }
}`

// askJava runs the program with a line for each question, and returns the answers. Kafka's classes
// are those of the jars that kafkatest has.
func askJava(t *testing.T, questions []string) []string {
	t.Helper()
	dir := t.TempDir()
	program, input := filepath.Join(dir, "Names.java"), filepath.Join(dir, "questions")
	require.NoError(t, os.WriteFile(program, []byte(javaProgram), 0o600))
	require.NoError(t, os.WriteFile(input, []byte(strings.Join(questions, "\n")+"\n"), 0o600))
	kafkatest.Require(t)
	jars, err := kafkatest.Provision(kafkatest.V431)
	require.NoError(t, err)
	out, err := exec.Command("java", "-cp", filepath.Join(jars, "*"), program, input).Output()
	require.NoError(t, err)
	var answers []string
	for s := bufio.NewScanner(strings.NewReader(string(out))); s.Scan(); {
		text, err := base64.StdEncoding.DecodeString(s.Text())
		require.NoError(t, err)
		answers = append(answers, string(text))
	}
	require.Len(t, answers, len(questions))
	return answers
}

// The names of certificates are those that Java gives them, to the letter.
func TestSubjectsAreJavas(t *testing.T) {
	var questions, ours []string
	for _, s := range subjects {
		raw, err := asn1.Marshal(s)
		require.NoError(t, err)
		name, err := Subject(raw)
		require.NoError(t, err)
		questions, ours = append(questions, "subject "+base64.StdEncoding.EncodeToString(raw)), append(ours, name)
	}
	require.Equal(t, askJava(t, questions), ours)
}

// The rules map names as Kafka's own class does.
func TestRulesAreKafkas(t *testing.T) {
	var questions, ours []string
	for _, text := range rules {
		r, err := ParseRules(text)
		require.NoError(t, err, text)
		for _, n := range names {
			encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
			questions = append(questions, fmt.Sprintf("rule %s %s", encode(text), encode(n)))
			name, err := r.Name(n)
			if err != nil {
				require.ErrorIs(t, err, ErrNoRule)
				ours = append(ours, "!NoMatchingRule")
			} else {
				ours = append(ours, "="+name)
			}
		}
	}
	require.Equal(t, askJava(t, questions), ours)
}

// A subject cannot break out of a line of the log, nor of what a rule looks at.
func TestHostileSubjects(t *testing.T) {
	for name, v := range map[string]asn1.RawValue{
		"newline":           value(asn1.TagUTF8String, "alice\nlevel=ERROR"),
		"carriage return":   value(asn1.TagUTF8String, "alice\r"),
		"null":              value(asn1.TagUTF8String, "alice\x00bob"),
		"escape":            value(asn1.TagUTF8String, "\x1b[2J"),
		"line separator":    value(asn1.TagUTF8String, "alice\u2028,OU=admin"),
		"next line":         value(asn1.TagUTF8String, "alice\u0085"),
		"not UTF-8":         value(asn1.TagUTF8String, "alice\xff"),
		"BMPString":         value(asn1.TagBMPString, "\x00a"),
		"T61String":         value(asn1.TagT61String, "alice"),
		"no universal type": {Class: asn1.ClassContextSpecific, Tag: asn1.TagUTF8String, Bytes: []byte("a")},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := asn1.Marshal([]relativeSET{{{oid(2, 5, 4, 3), v}}})
			require.NoError(t, err)
			_, err = Subject(raw)
			require.Error(t, err)
		})
	}
	_, err := Subject([]byte{0x30, 0x80})
	require.Error(t, err)

	// A part that looks like another one is escaped, so a rule about the other does not match.
	raw, err := asn1.Marshal([]relativeSET{{{oid(2, 5, 4, 3), value(asn1.TagUTF8String, `mallory,OU=ServiceUsers`)}}})
	require.NoError(t, err)
	subject, err := Subject(raw)
	require.NoError(t, err)
	require.Equal(t, `CN=mallory\,OU\=ServiceUsers`, subject)
	r, err := ParseRules("RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/")
	require.NoError(t, err)
	_, err = r.Name(subject)
	require.ErrorIs(t, err, ErrNoRule)
}

// What Java and Go understand in different ways is refused.
func TestRefusedRules(t *testing.T) {
	for _, text := range []string{
		"default", "RULE:a", "RULE:a/b", "RULE:a/b/X", "RULE:a/b/LU", "RULE:(a/b/", "DEFAULT RULE:a/b/",
		`RULE:(?=a)b/c/`, `RULE:(?<!a)b/c/`, `RULE:(a)\1/b/`, `RULE:a++/b/`, `RULE:[a-z&&[def]]/b/`, `RULE:[[:alpha:]]/b/`, `RULE:[a[b]]/c/`,
		`RULE:\v/b/`, `RULE:\bCN/b/`, `RULE:(?i)cn=(.*)/$1/`, `RULE:(?U)a/b/`, `RULE:(?P<n>a)/b/`, `RULE:\h/b/`, `RULE:\Qa\E/b/`, `RULE:a{,2}/b/`, `RULE:[]a]/b/`,
		`RULE:a/$/`, `RULE:a/$x/`, `RULE:(a)/$0/`, `RULE:\p{Alpha}/b/`,
	} {
		_, err := ParseRules(text)
		require.Error(t, err, text)
	}
	r, err := ParseRules("RULE:(CN=.*?)/$1/")
	require.NoError(t, err)
	_, err = r.Name("CN=alice")
	require.ErrorIs(t, err, errManyMatches)
}

// Subject reads what Go's own library writes.
func TestSubjectOfCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	template.Subject.CommonName, template.Subject.Organization = "alice", []string{"Shop"}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	name, err := Subject(cert.RawSubject)
	require.NoError(t, err)
	require.Equal(t, "CN=alice,O=Shop", name)
}
