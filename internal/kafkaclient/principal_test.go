package kafkaclient

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPrincipal(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "klink", OrganizationalUnit: []string{"data"}, Organization: []string{"Shop, Inc"}}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	chain := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	private := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	scramLogin := `org.apache.kafka.common.security.scram.ScramLoginModule required username="klink" password="x"`
	for name, c := range map[string]struct {
		p    Properties
		want string
	}{
		"no login":         {Properties{}, "User:ANONYMOUS"},
		"TLS alone":        {Properties{"security.protocol": "SSL"}, "User:ANONYMOUS"},
		"password":         {Properties{"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-256", "sasl.jaas.config": scramLogin + ";"}, "User:klink"},
		"delegation token": {Properties{"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-256", "sasl.jaas.config": scramLogin + ` tokenauth="true";`}, ""},
		"certificate": {
			Properties{"security.protocol": "SSL", "ssl.keystore.type": "PEM", "ssl.keystore.certificate.chain": chain, "ssl.keystore.key": private},
			`User:CN=klink,OU=data,O=Shop\, Inc`,
		},
		"password and certificate": {Properties{
			"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-256", "sasl.jaas.config": scramLogin + ";",
			"ssl.keystore.type": "PEM", "ssl.keystore.certificate.chain": chain, "ssl.keystore.key": private,
		}, "User:klink"},
	} {
		got, err := c.p.Principal()
		require.NoError(t, err, name)
		require.Equal(t, c.want, got, name)
	}
}
