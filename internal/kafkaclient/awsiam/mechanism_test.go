package awsiam

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// request is what AWS's Signature Version 4 signs, as its documentation says.
type request struct {
	method, path   string
	query, headers map[string]string
	payload        string // its hash, or UNSIGNED-PAYLOAD
	date           string // 20060102T150405Z
	region         string
	service        string
}

const noPayload = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// signature is written from the documentation: canonical request, string to sign, key, signature.
func (r request) signature(secret string) string {
	// URI encoding of the documentation: everything but A-Z a-z 0-9 - . _ ~.
	encode := func(s string) string {
		return strings.NewReplacer("+", "%20", "%7E", "~").Replace(url.QueryEscape(s))
	}
	var query, headers []string
	for _, k := range slices.Sorted(maps.Keys(r.query)) {
		query = append(query, encode(k)+"="+encode(r.query[k]))
	}
	names := slices.Sorted(maps.Keys(r.headers))
	for _, k := range names {
		headers = append(headers, k+":"+r.headers[k]+"\n")
	}
	canonical := strings.Join([]string{r.method, r.path, strings.Join(query, "&"), strings.Join(headers, ""), strings.Join(names, ";"), r.payload}, "\n")
	hash := sha256.Sum256([]byte(canonical))
	toSign := strings.Join([]string{"AWS4-HMAC-SHA256", r.date, r.scope(), hex.EncodeToString(hash[:])}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range []string{r.date[:8], r.region, r.service, "aws4_request", toSign} {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(part))
		key = m.Sum(nil)
	}
	return hex.EncodeToString(key)
}

func (r request) scope() string {
	return strings.Join([]string{r.date[:8], r.region, r.service, "aws4_request"}, "/")
}

// TestPublishedSignatures: the signatures of AWS's test suite (get-vanilla,
// get-vanilla-query-order-key-case) and of the example in the documentation of S3.
func TestPublishedSignatures(t *testing.T) {
	vanilla := request{
		method: "GET", path: "/", headers: map[string]string{"host": "example.amazonaws.com", "x-amz-date": "20150830T123600Z"},
		payload: noPayload, date: "20150830T123600Z", region: "us-east-1", service: "service",
	}
	const secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	require.Equal(t, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", vanilla.signature(secret))
	vanilla.query = map[string]string{"Param2": "value2", "Param1": "value1"}
	require.Equal(t, "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500", vanilla.signature(secret))
	presigned := request{
		method: "GET", path: "/test.txt", headers: map[string]string{"host": "examplebucket.s3.amazonaws.com"},
		query: map[string]string{
			"X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request",
			"X-Amz-Date": "20130524T000000Z", "X-Amz-Expires": "86400", "X-Amz-SignedHeaders": "host",
		},
		payload: "UNSIGNED-PAYLOAD", date: "20130524T000000Z", region: "us-east-1", service: "s3",
	}
	require.Equal(t, "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
		presigned.signature("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"))
}

// verify checks a login as MSK does, and returns its access key.
func verify(login []byte, host, region, secret string) (string, error) {
	var l map[string]string
	if err := json.Unmarshal(login, &l); err != nil {
		return "", err
	}
	r := request{
		method: "GET", path: "/", headers: map[string]string{"host": l["host"]}, query: map[string]string{},
		payload: noPayload, date: l["x-amz-date"], region: region, service: "kafka-cluster",
	}
	names := map[string]string{
		"action": "Action", "x-amz-algorithm": "X-Amz-Algorithm", "x-amz-credential": "X-Amz-Credential", "x-amz-date": "X-Amz-Date",
		"x-amz-expires": "X-Amz-Expires", "x-amz-signedheaders": "X-Amz-SignedHeaders", "x-amz-security-token": "X-Amz-Security-Token",
	}
	for name, value := range l {
		if full, ok := names[name]; ok {
			r.query[full] = value
		}
	}
	at, err := time.Parse("20060102T150405Z", r.date)
	if err != nil {
		return "", err
	}
	key, scope, _ := strings.Cut(l["x-amz-credential"], "/")
	switch {
	case l["host"] != host:
		return "", fmt.Errorf("it is for host %q", l["host"])
	case l["version"] != "2020_10_22" || l["action"] != "kafka-cluster:Connect" || l["x-amz-algorithm"] != "AWS4-HMAC-SHA256" || l["x-amz-signedheaders"] != "host":
		return "", fmt.Errorf("its form: %v", l)
	case scope != r.scope():
		return "", fmt.Errorf("it is for %q, not %q", scope, r.scope())
	case time.Since(at).Abs() > 5*time.Minute || l["x-amz-expires"] != "300":
		return "", fmt.Errorf("it is not of now: %v", l)
	case l["x-amz-signature"] != r.signature(secret):
		return "", fmt.Errorf("the signature is not that of the secret: %v", l)
	}
	return key, nil
}

// TestLogin: what klink sends to a broker has the form and the signature that MSK checks.
func TestLogin(t *testing.T) {
	alone(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s3cret/of+env")
	t.Setenv("AWS_SESSION_TOKEN", "to+ken/=~ ")
	const host = "b-1.demo.abc123.c2.kafka.eu-west-1.amazonaws.com"
	_, login, err := New(Options{}).Authenticate(t.Context(), host+":9098")
	require.NoError(t, err)
	key, err := verify(login, host, "eu-west-1", "s3cret/of+env")
	require.NoError(t, err)
	require.Equal(t, "AKIDENV", key)
	require.Contains(t, string(login), `"user-agent":"klink"`)
	require.NotContains(t, string(login), "s3cret")
	_, err = verify(login, host, "eu-west-1", "another")
	require.ErrorContains(t, err, "signature")
	_, err = verify(login, "b-2.demo", "eu-west-1", "s3cret/of+env")
	require.ErrorContains(t, err, "host")

	// A host that does not tell the region.
	_, _, err = New(Options{}).Authenticate(t.Context(), "kafka.example:9098")
	require.ErrorContains(t, err, "cannot determine the region")
	t.Setenv("AWS_REGION", "us-gov-east-1")
	_, login, err = New(Options{}).Authenticate(t.Context(), "kafka.example:9098")
	require.NoError(t, err)
	_, err = verify(login, "kafka.example", "us-gov-east-1", "s3cret/of+env")
	require.NoError(t, err)
}
