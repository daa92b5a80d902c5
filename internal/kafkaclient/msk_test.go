package kafkaclient

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/internal/kafkaclient/awsiam"
)

const (
	jaasMSK    = mskModule + " required;"
	jaasMSKOwn = mskModule + ` required awsRoleArn="arn:aws:iam::123456789012:role/r" awsRoleAccessKeyId="AKID" awsRoleSecretAccessKey="S3CRET";`
)

// TestMSKProperties: the files of MSK's users are taken, and links have klink's credentials only if
// the operator says so.
func TestMSKProperties(t *testing.T) {
	msk := func(keyAndValue ...string) Properties {
		p := Properties{"security.protocol": "SASL_SSL", "sasl.mechanism": "AWS_MSK_IAM", "sasl.jaas.config": jaasMSK, keyClientHandler: mskHandler}
		for i := 0; i < len(keyAndValue); i += 2 {
			p[keyAndValue[i]] = keyAndValue[i+1]
		}
		return p
	}
	for name, c := range map[string]struct {
		files Files
		p     Properties
		text  string // "" = taken
	}{
		"operator":        {operatorFiles, msk(), ""},
		"profile":         {operatorFiles, msk("sasl.jaas.config", mskModule+` required awsProfileName="msk";`), ""},
		"in the clear":    {operatorFiles, msk("security.protocol", "SASL_PLAINTEXT"), "AWS_MSK_IAM needs SASL_SSL"},
		"another handler": {operatorFiles, msk(keyClientHandler, "com.example.Handler"), keyClientHandler + ": klink does not have this handler"},
		"another module":  {operatorFiles, msk("sasl.jaas.config", jaasPlain), "want " + mskModule},
		"unknown option":  {operatorFiles, msk("sasl.jaas.config", mskModule+` required awsX="S3CRET";`), "option awsX"},
		"link":            {Files{}, msk(), "--link-aws-credentials is off"},
		"link, role":      {Files{}, msk("sasl.jaas.config", mskModule+` required awsRoleArn="arn:aws:iam::123456789012:role/r";`), "--link-aws-credentials is off"},
		"link, own keys":  {Files{}, msk("sasl.jaas.config", jaasMSKOwn), ""},
		"link, allowed":   {Files{}.WithAWS(), msk(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.p.OptionsFrom(c.files)
			if c.text == "" {
				require.NoError(t, err)
				principal, err := c.p.Principal()
				require.NoError(t, err)
				require.Empty(t, principal)
				return
			}
			require.ErrorContains(t, err, c.text)
			require.NotContains(t, err.Error(), "S3CRET")
		})
	}
	require.Equal(t, TroubleAWS, Classify(&awsiam.Error{}))
}

// TestMSKLogin: a client logs in, again and again, at a broker that takes AWS_MSK_IAM. The broker
// is a fake, and so is its SASL: it looks at the message, which package awsiam verifies.
func TestMSKLogin(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "S3CRET", "AWS_SESSION_TOKEN": "", "AWS_REGION": "eu-west-1", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": "/none", "AWS_SHARED_CREDENTIALS_FILE": "/none", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	pair, ca := selfSigned(t)
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}}))
	require.NoError(t, err)
	t.Cleanup(broker.Close)
	var mu sync.Mutex
	var logins []map[string]string
	broker.ControlKey(int16(kmsg.SASLHandshake), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		resp := req.ResponseKind().(*kmsg.SASLHandshakeResponse)
		if req.(*kmsg.SASLHandshakeRequest).Mechanism != "AWS_MSK_IAM" {
			resp.ErrorCode = kerr.UnsupportedSaslMechanism.Code
		}
		return resp, nil, true
	})
	broker.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		var login map[string]string
		if json.Unmarshal(req.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes, &login) != nil {
			resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		}
		mu.Lock()
		defer mu.Unlock()
		logins = append(logins, login)
		resp.SASLAuthBytes, resp.SessionLifetimeMillis = []byte(`{"version":"2020_10_22","request-id":"1"}`), 1100
		return resp, nil, true
	})
	p := Properties{
		"bootstrap.servers": broker.ListenAddrs()[0], "security.protocol": "SASL_SSL", "ssl.truststore.certificates": ca,
		"sasl.mechanism": "AWS_MSK_IAM", "sasl.jaas.config": jaasMSK, keyClientHandler: mskHandler,
	}
	opts, err := p.Options()
	require.NoError(t, err)
	cl, err := kgo.NewClient(opts...)
	require.NoError(t, err)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for done := false; !done; {
		require.NoError(t, cl.Ping(ctx))
		mu.Lock()
		done = len(logins) >= 4
		mu.Unlock()
	}
	for _, login := range logins {
		require.Equal(t, "127.0.0.1", login["host"])
		require.Contains(t, login["x-amz-credential"], "AKID/")
	}
}

// selfSigned makes a certificate for 127.0.0.1, and returns it also as PEM.
func selfSigned(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
