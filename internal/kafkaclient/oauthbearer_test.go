package kafkaclient

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
)

const (
	jaasOAuth   = oauthModule + ` required clientId="i" clientSecret="S3CRET" scope="s" extension_logicalCluster="lkc-1" extension_identityPoolId="pool-1";`
	oauthEmpty  = oauthModule + ` required;`
	handlerName = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler"
)

// oauthProperties returns the properties of a login with OAUTHBEARER, and what is given besides.
func oauthProperties(keyAndValue ...string) Properties {
	p := Properties{"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER", "sasl.jaas.config": jaasOAuth, keyTokenEndpoint: "https://idp/token"}
	for i := 0; i < len(keyAndValue); i += 2 {
		p[keyAndValue[i]] = keyAndValue[i+1]
	}
	return p
}

// TestOAuthBearerProperties: the properties files of Java clients are taken, and what klink cannot
// do is refused by name, without a secret.
func TestOAuthBearerProperties(t *testing.T) {
	secure := strings.Replace(handlerName, "oauthbearer.", "oauthbearer.secured.", 1)
	for name, c := range map[string]struct {
		p    Properties
		text string // "" = taken
	}{
		"Kafka 3.1":        {oauthProperties(keyLoginHandler, secure), ""},
		"Kafka 4.1":        {oauthProperties(keyLoginHandler, handlerName, "sasl.jaas.config", oauthEmpty, keyTokenID, "i", keyTokenSecret, "S3CRET", keyTokenScope, "s"), ""},
		"without handler":  {oauthProperties(), ""},
		"all the numbers":  {oauthProperties(keyLoginConnect, "1000", keyLoginRead, "0", keyLoginRetry, "5", keyLoginRetryMax, "50", keyRefreshFactor, "0.5", keyRefreshJitter, "0.25", keyRefreshPeriod, "900", keyRefreshBuffer, "3600", keyTokenEncode, "true"), ""},
		"default class":    {oauthProperties(keyTokenRetriever, "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever"), ""},
		"http in the host": {oauthProperties(keyTokenEndpoint, "http://localhost:8080/token"), ""},
		"all in the clear": {oauthProperties(keyTokenEndpoint, "http://keycloak:8080/token", "security.protocol", "SASL_PLAINTEXT"), ""},
		"unsecured":        {oauthProperties(keyTokenEndpoint, "", "sasl.jaas.config", oauthModule+` required unsecuredLoginStringClaim_sub="dev";`), ""},
		"TLS of the JAAS":  {oauthProperties("sasl.jaas.config", strings.Replace(jaasOAuth, ";", ` ssl.truststore.location="/none" ssl.truststore.type="PEM";`, 1)), "option ssl.truststore.location"},
		"http":             {oauthProperties(keyTokenEndpoint, "http://idp/token"), "use https"},
		"a user":           {oauthProperties(keyTokenEndpoint, "https://u:S3CRET@idp/token"), "without a user"},
		"not a URL":        {oauthProperties(keyTokenEndpoint, "https://%zzS3CRET"), "is not a URL"},
		"ftp":              {oauthProperties(keyTokenEndpoint, "ftp://idp/token"), "neither https nor file"},
		"no secret":        {oauthProperties("sasl.jaas.config", oauthEmpty), "option clientId"},
		"empty secret":     {oauthProperties(keyTokenSecret, ""), keyTokenSecret + ", or option clientSecret"},
		"no module":        {oauthProperties("sasl.jaas.config", jaasPlain), "want " + oauthModule},
		"Strimzi's":        {oauthProperties(keyLoginHandler, "io.strimzi.kafka.oauth.client.JaasClientOauthLoginCallbackHandler"), "in place of oauth.*"},
		"MSK's":            {oauthProperties(keyLoginHandler, "software.amazon.msk.auth.iam.IAMOAuthBearerLoginCallbackHandler"), "AWS_MSK_IAM"},
		"another's":        {oauthProperties(keyLoginHandler, "com.example.Handler"), keyLoginHandler + ": klink does not have this handler"},
		"no endpoint":      {oauthProperties(keyTokenEndpoint, "", keyLoginHandler, handlerName), keyTokenEndpoint + ": must be set"},
		"nothing at all":   {oauthProperties(keyTokenEndpoint, ""), "unsecuredLoginStringClaim_sub is missing"},
		"jwt-bearer":       {oauthProperties(keyTokenRetriever, "org.apache.kafka.common.security.oauthbearer.JwtBearerJwtRetriever"), keyTokenRetriever},
		"assertion":        {oauthProperties("sasl.oauthbearer.assertion.private.key.file", "/S3CRET"), "sasl.oauthbearer.assertion.private.key.file: klink does not support assertions"},
		"extension":        {oauthProperties("sasl.jaas.config", strings.Replace(jaasOAuth, "extension_logicalCluster", "extension_auth", 1)), "option extension_auth"},
		"factor":           {oauthProperties(keyRefreshFactor, "NaN"), keyRefreshFactor},
		"period":           {oauthProperties(keyRefreshPeriod, "-1"), keyRefreshPeriod},
		"encode":           {oauthProperties(keyTokenEncode, "S3CRET"), keyTokenEncode + ": want true or false"},
		"relative file":    {oauthProperties(keyTokenEndpoint, "file:token"), "absolute path"},
		"no file":          {oauthProperties(keyTokenEndpoint, "file:///none/token"), "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.p.Options()
			principal, perr := c.p.Principal()
			require.NoError(t, perr)
			require.Empty(t, principal, "a token says who it is for, and nobody has it yet")
			if c.text == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.text)
			require.NotContains(t, err.Error(), "S3CRET")
		})
	}
}

// TestLinksAndTokenEndpoints: links may use what the operator lists, else any https, and no file
// outside the directories.
func TestLinksAndTokenEndpoints(t *testing.T) {
	dir := t.TempDir()
	token := "e30." + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"exp":%d}`, time.Now().Add(time.Hour).Unix())) + ".x"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte(token), 0o600))
	inDir, err := LinkFiles([]string{dir})
	require.NoError(t, err)
	listed, err := inDir.WithEndpoints([]string{"http://localhost:8080/token", "https://idp/token"})
	require.NoError(t, err)
	for _, c := range []struct {
		files Files
		url   string
		text  string
	}{
		{Files{}, "https://idp/token", ""},
		{Files{}, "http://localhost:8080/token", "--link-token-endpoints"},
		{Files{}, "file://" + dir + "/token", ErrFile.Error()},
		{inDir, "file://" + dir + "/token", ""},
		{inDir, "file://" + dir + "/../token", ErrFile.Error()},
		{listed, "http://localhost:8080/token", ""},
		{listed, "https://idp/token", ""},
		{listed, "https://idp/token?x=1", "--link-token-endpoints"},
		{listed, "https://other/token", "--link-token-endpoints"},
	} {
		_, err := oauthProperties(keyTokenEndpoint, c.url).OptionsFrom(c.files)
		if c.text == "" {
			require.NoError(t, err, c.url)
			continue
		}
		require.ErrorContains(t, err, c.text, c.url)
	}
	for _, url := range []string{"idp/token", "file:///etc/passwd", "https://u@idp/", ""} {
		_, err := inDir.WithEndpoints([]string{url})
		require.Error(t, err, url)
	}
	require.Equal(t, dir+"/token", oauthProperties(keyTokenEndpoint, "file://"+dir+"/token").tokenPath())
	require.Empty(t, oauthProperties().tokenPath())
}

// TestTokenTrouble: what happens at the token endpoint is not taken for the broker's doing.
func TestTokenTrouble(t *testing.T) {
	m, err := oauthProperties(keyTokenEndpoint, "https://127.0.0.1:1/token").mechanism(operatorFiles)
	require.NoError(t, err)
	_, _, err = m.Authenticate(t.Context(), "b:1")
	require.ErrorContains(t, err, "token endpoint 127.0.0.1:1: ")
	require.Equal(t, TroubleToken, Classify(fmt.Errorf("login: %w", err)))

	path := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(path, []byte("e30."+base64.RawURLEncoding.EncodeToString([]byte(`{"exp":9000000000}`))+".x"), 0o600))
	m, err = oauthProperties(keyTokenEndpoint, "file://"+path).mechanism(operatorFiles)
	require.NoError(t, err)
	session, first, err := m.Authenticate(t.Context(), "b:1")
	require.NoError(t, err)
	require.Contains(t, string(first), "\x01identityPoolId=pool-1\x01logicalCluster=lkc-1\x01\x01")
	_, _, err = session.Challenge([]byte(`{"status":"invalid_token"}`))
	require.ErrorIs(t, err, kerr.SaslAuthenticationFailed)
	require.Equal(t, TroubleLogin, Classify(err))
}
