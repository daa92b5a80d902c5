package store

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func der(t testing.TB, v any) []byte {
	t.Helper()
	b, err := asn1.Marshal(v)
	require.NoError(t, err)
	return b
}

// explicit is a value in an explicit tag 0.
func explicit(content []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: content}
}

func raw(content []byte) asn1.RawValue { return asn1.RawValue{FullBytes: content} }

// pbes2Algorithm is PBES2 with AES-256, and an initialization vector of zeros.
func pbes2Algorithm(t testing.TB, rounds int) pkix.AlgorithmIdentifier {
	return pkix.AlgorithmIdentifier{Algorithm: oidPBES2, Parameters: raw(der(t, pbes2Params{
		Derivation: pkix.AlgorithmIdentifier{Algorithm: oidPBKDF2, Parameters: raw(der(t, struct {
			Salt   []byte
			Rounds int
		}{[]byte("salt"), rounds}))},
		Scheme: pkix.AlgorithmIdentifier{Algorithm: pbes2Ciphers[2].oid, Parameters: raw(der(t, make([]byte, aes.BlockSize)))},
	}))}
}

// seal encrypts with pbes2Algorithm.
func seal(t testing.TB, plain []byte, password string, rounds int) []byte {
	key, err := pbkdf2.Key(sha1.New, password, []byte("salt"), rounds, 32)
	require.NoError(t, err)
	block, err := aes.NewCipher(key)
	require.NoError(t, err)
	padding := aes.BlockSize - len(plain)%aes.BlockSize
	plain = append(bytes.Clone(plain), bytes.Repeat([]byte{byte(padding)}, padding)...)
	cipher.NewCBCEncrypter(block, make([]byte, aes.BlockSize)).CryptBlocks(plain, plain)
	return plain
}

// storeOf is a PKCS #12 store of parts, without a MAC.
func storeOf(t testing.TB, parts ...contentInfo) []byte {
	return der(t, struct {
		Version int
		Safe    contentInfo
	}{3, contentInfo{oidData, explicit(der(t, der(t, parts)))}})
}

// sealedPart is an encrypted part of a store, which says that it took so many rounds. It has taken
// 100,000 at most.
func sealedPart(t testing.TB, plain []byte, password string, rounds int) contentInfo {
	e := encryptedData{}
	e.Content.Type, e.Content.Algorithm = oidData, pbes2Algorithm(t, rounds)
	e.Content.Data = seal(t, plain, password, min(max(rounds, 1), 100_000))
	return contentInfo{oidEncryptedData, explicit(der(t, e))}
}

func bags(t testing.TB, bags ...safeBag) []byte {
	type plain struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	var all []plain
	for _, b := range bags {
		all = append(all, plain{b.Type, explicit(b.Value.FullBytes)})
	}
	return der(t, all)
}

// A store says how often to hash, also where one sees it only after decrypting something else.
func TestEndlessRounds(t *testing.T) {
	const endless, password = 1<<31 - 1, "p"
	empty := bags(t)
	sealedKey := safeBag{Type: oidSealedKeyBag, Value: raw(der(t, encryptedKey{pbes2Algorithm(t, endless), make([]byte, 32)}))}
	var mac macData
	mac.Digest.Algorithm.Algorithm, mac.Digest.Value, mac.Salt, mac.Rounds = oidSHA1, make([]byte, 20), []byte("salt"), endless
	withMAC := der(t, pfx{3, contentInfo{oidData, explicit(der(t, der(t, []contentInfo{})))}, mac})
	many := slices.Repeat([]contentInfo{sealedPart(t, empty, password, 100_000)}, 30)
	for name, read := range map[string]func() error{
		"a part": func() error {
			_, err := Trust(storeOf(t, sealedPart(t, empty, password, endless)), "", password)
			return err
		},
		"no password": func() error { _, err := Trust(storeOf(t, sealedPart(t, empty, "", endless)), "", ""); return err },
		"many parts":  func() error { _, err := Trust(storeOf(t, many...), "", password); return err },
		"MAC":         func() error { _, err := Trust(withMAC, "", password); return err },
		"a key in an encrypted part": func() error {
			_, err := Key(storeOf(t, sealedPart(t, bags(t, sealedKey), password, 1)), "", password, "")
			return err
		},
		"PEM": func() error {
			block := pem.Block{Type: blockEncrypted, Bytes: der(t, encryptedKey{pbes2Algorithm(t, endless), make([]byte, 32)})}
			_, err := KeyPEM(nil, pem.EncodeToMemory(&block), password)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { require.ErrorContains(t, read(), "more than 2000000 rounds of hashing") })
	}
	// Nothing is hashed for keys that nobody needs.
	_, err := Trust(storeOf(t, sealedPart(t, bags(t, sealedKey), password, 1)), "", password)
	require.ErrorContains(t, err, "no trusted certificate")
	for _, rounds := range []int{0, -1} {
		_, err := Trust(storeOf(t, sealedPart(t, empty, password, rounds)), "", password)
		require.ErrorContains(t, err, "damaged")
	}
}

// Lengths and counts in a store lead to no memory that the store does not have itself.
func TestLengthsThatLie(t *testing.T) {
	head := func(entries uint32, rest ...[]byte) []byte {
		b := binary.BigEndian.AppendUint32(append(bytes.Clone(magicJKS), 0, 0, 0, 2), entries)
		return append(append(b, bytes.Join(rest, nil)...), make([]byte, 20)...)
	}
	var (
		most  = []byte{0xff, 0xff, 0xff, 0xff}
		entry = func(tag byte) []byte { return append([]byte{0, 0, 0, tag, 0, 1, 'a'}, make([]byte, 8)...) }
		none  = []byte{0, 0, 0, 0}
		x509s = []byte{0, 1, 'X'}
	)
	// Half a million elements of two bytes.
	elements := func(tag byte) []byte {
		return der(t, asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: bytes.Repeat([]byte{tag, 0}, 1<<19-100)})
	}
	for name, content := range map[string][]byte{
		"entries":         head(1<<32 - 1),
		"length of a key": head(1, entry(jksTagKey), most),
		"chain":           head(1, entry(jksTagKey), none, most),
		"long chain":      head(1, entry(jksTagKey), none, most, bytes.Repeat(append(bytes.Clone(x509s), none...), 100_000)),
		"certificate":     head(1, entry(jksTagTrusted), x509s, most),
		"alias":           head(1, []byte{0, 0, 0, jksTagTrusted, 0xff, 0xff}),
		"unknown tag":     head(1, entry(7), most),
		"parts of a store": der(t, struct {
			V    int
			Safe contentInfo
		}{3, contentInfo{oidData, explicit(der(t, elements(0x30)))}}),
		"bags":                storeOf(t, contentInfo{oidData, explicit(der(t, elements(0x30)))}),
		"length in the ASN.1": {0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 2, 1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Trust(content, "", "")
			require.Error(t, err)
			_, err = Key(content, "", "", "p")
			require.Error(t, err)
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20))
		})
	}
}

// What is encrypted has any length, and so has its initialization vector.
func TestOddCiphers(t *testing.T) {
	for name, change := range map[string]func(k *encryptedKey){
		"no data":  func(k *encryptedKey) { k.Data = nil },
		"odd data": func(k *encryptedKey) { k.Data = k.Data[1:] },
		"no vector": func(k *encryptedKey) {
			k.Algorithm.Parameters = raw(bytes.Replace(k.Algorithm.Parameters.FullBytes, make([]byte, 16), nil, 1))
		},
		"short vector": func(k *encryptedKey) {
			var params pbes2Params
			require.NoError(t, unmarshal(k.Algorithm.Parameters.FullBytes, &params))
			params.Scheme.Parameters = raw(der(t, make([]byte, 3)))
			k.Algorithm.Parameters = raw(der(t, params))
		},
		"no parameters": func(k *encryptedKey) { k.Algorithm.Parameters = asn1.RawValue{} },
		"noise":         func(k *encryptedKey) { k.Data = make([]byte, 64) },
	} {
		t.Run(name, func(t *testing.T) {
			k := encryptedKey{pbes2Algorithm(t, 1), seal(t, []byte{0x30, 0}, "p", 1)}
			change(&k)
			_, err := KeyPEM(nil, pem.EncodeToMemory(&pem.Block{Type: blockEncrypted, Bytes: der(t, k)}), "p")
			require.Error(t, err)
		})
	}
}

// A huge RSA key would make a handshake, or the check of a key pair, take minutes.
func TestHugeRSA(t *testing.T) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	n := new(big.Int).SetBit(big.NewInt(1), maxRSA, 1)
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &rsa.PublicKey{N: n, E: 65537}, signer)
	require.NoError(t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	_, err = Trust(text, "", "")
	require.ErrorContains(t, err, "more than 16384 bits")
	_, err = KeyPEM(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: make([]byte, maxKey+1)}), "")
	require.ErrorContains(t, err, "larger than")
}
