package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" //nolint:gosec // stores of old are encrypted so
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // see above
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
)

// maxRounds bounds the rounds of hashing for all that is opened of one store; they take a second or
// two. keytool has used up to 100,000 for one key, and three keys are made to open a store. The
// advice for passwords of people is 600,000.
const maxRounds = 2_000_000

// rounds counts what is left of maxRounds.
type rounds int

func newRounds() *rounds {
	left := rounds(maxRounds)
	return &left
}

func (r *rounds) take(n int) error {
	if n < 1 {
		return errDamaged
	}
	if n > int(*r) {
		return fmt.Errorf("opening it takes more than %d rounds of hashing: make it anew with fewer", maxRounds)
	}
	*r -= rounds(n)
	return nil
}

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}

	oidSHA1 = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
)

// hashes are the digests, and the HMACs with them, by the OIDs of both.
var hashes = []struct {
	digest, hmac asn1.ObjectIdentifier
	new          func() hash.Hash
}{
	{oidSHA1, asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 7}, sha1.New},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 4}, asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 8}, sha256.New224},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}, sha256.New},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 10}, sha512.New384},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 11}, sha512.New},
}

// blockCipher is a cipher of PBES2, or one with the key derivation of PKCS #12.
type blockCipher struct {
	oid asn1.ObjectIdentifier
	key int // its length in bytes
	new func(key []byte) (cipher.Block, error)
}

var pbes2Ciphers = []blockCipher{
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}, 16, aes.NewCipher},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}, 24, aes.NewCipher},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, 32, aes.NewCipher},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 7}, 24, des.NewTripleDESCipher},
}

var pkcs12Ciphers = []blockCipher{
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 1, 3}, 24, des.NewTripleDESCipher},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 1, 5}, 16, newRC2},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 1, 6}, 5, newRC2},
}

// encryptedKey is the EncryptedPrivateKeyInfo of PKCS #8.
type encryptedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

// open decrypts the key.
func (k encryptedKey) open(password string, left *rounds) ([]byte, error) {
	return decrypt(k.Algorithm, k.Data, password, left)
}

// The parameters of the algorithms, as ASN.1.
type (
	pbes2Params  struct{ Derivation, Scheme pkix.AlgorithmIdentifier }
	pbkdf2Params struct {
		Salt      asn1.RawValue
		Rounds    int
		KeyLength int                      `asn1:"optional"`
		HMAC      pkix.AlgorithmIdentifier `asn1:"optional"`
	}
	pkcs12Params struct {
		Salt   []byte
		Rounds int
	}
)

// decrypt decrypts what was encrypted with a password: a sequence of ASN.1. The error is
// errPassword if the padding, or what is inside, tells that the password is wrong.
func decrypt(algorithm pkix.AlgorithmIdentifier, data []byte, password string, left *rounds) ([]byte, error) {
	block, iv, err := cipherOf(algorithm, password, left)
	if err != nil {
		return nil, err
	}
	size := block.BlockSize()
	if len(iv) != size || len(data) == 0 || len(data)%size != 0 {
		return nil, errDamaged
	}
	plain := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, data)
	padding := int(plain[len(plain)-1])
	if padding == 0 || padding > size {
		return nil, errPassword
	}
	for _, b := range plain[len(plain)-padding:] {
		if int(b) != padding {
			return nil, errPassword
		}
	}
	plain = plain[:len(plain)-padding]
	var inside asn1.RawValue
	if unmarshal(plain, &inside) != nil || inside.Class != asn1.ClassUniversal || inside.Tag != asn1.TagSequence {
		return nil, errPassword
	}
	return plain, nil
}

// cipherOf returns the cipher that an algorithm means with a password, and its initialization
// vector of any length.
func cipherOf(algorithm pkix.AlgorithmIdentifier, password string, left *rounds) (block cipher.Block, iv []byte, err error) {
	if algorithm.Algorithm.Equal(oidPBES2) {
		return pbes2(algorithm.Parameters.FullBytes, password, left)
	}
	for _, c := range pkcs12Ciphers {
		if !algorithm.Algorithm.Equal(c.oid) {
			continue
		}
		var params pkcs12Params
		if unmarshal(algorithm.Parameters.FullBytes, &params) != nil {
			return nil, nil, errDamaged
		}
		if err := left.take(params.Rounds); err != nil {
			return nil, nil, err
		}
		block, err := c.new(deriveKey(sha1.New, forKey, password, params.Salt, params.Rounds, c.key))
		if err != nil {
			return nil, nil, err
		}
		return block, deriveKey(sha1.New, forIV, password, params.Salt, params.Rounds, block.BlockSize()), nil
	}
	return nil, nil, unsupported("its encryption", algorithm.Algorithm)
}

func pbes2(parameters []byte, password string, left *rounds) (block cipher.Block, iv []byte, err error) {
	var params pbes2Params
	if unmarshal(parameters, &params) != nil {
		return nil, nil, errDamaged
	}
	for _, c := range pbes2Ciphers {
		if !params.Scheme.Algorithm.Equal(c.oid) {
			continue
		}
		if unmarshal(params.Scheme.Parameters.FullBytes, &iv) != nil {
			return nil, nil, errDamaged
		}
		key, err := derivePBKDF2(params.Derivation, password, c.key, left)
		if err != nil {
			return nil, nil, err
		}
		block, err = c.new(key)
		return block, iv, err
	}
	return nil, nil, unsupported("its encryption", params.Scheme.Algorithm)
}

// derivePBKDF2 makes a key of a length out of a password.
func derivePBKDF2(algorithm pkix.AlgorithmIdentifier, password string, length int, left *rounds) ([]byte, error) {
	if !algorithm.Algorithm.Equal(oidPBKDF2) {
		return nil, unsupported("its key derivation", algorithm.Algorithm)
	}
	params, err := pbkdf2Of(algorithm)
	if err != nil {
		return nil, err
	}
	hmac := sha1.New // the default
	if len(params.HMAC.Algorithm) > 0 {
		if hmac = hashOf(params.HMAC.Algorithm); hmac == nil {
			return nil, unsupported("its key derivation", params.HMAC.Algorithm)
		}
	}
	if err := left.take(params.Rounds); err != nil {
		return nil, err
	}
	return pbkdf2.Key(hmac, password, params.Salt.Bytes, params.Rounds, length)
}

func pbkdf2Of(algorithm pkix.AlgorithmIdentifier) (pbkdf2Params, error) {
	var params pbkdf2Params
	if unmarshal(algorithm.Parameters.FullBytes, &params) != nil || params.Salt.Class != asn1.ClassUniversal || params.Salt.Tag != asn1.TagOctetString {
		return params, errDamaged
	}
	return params, nil
}

// hashOf returns the hash function with an OID of its own or of its HMAC; nil = unknown.
func hashOf(oid asn1.ObjectIdentifier) func() hash.Hash {
	for _, h := range hashes {
		if oid.Equal(h.digest) || oid.Equal(h.hmac) {
			return h.new
		}
	}
	return nil
}

// unsupported names an algorithm, and the way out.
func unsupported(what string, oid asn1.ObjectIdentifier) error {
	name := oid.String()
	return fmt.Errorf("%s (%s) is not supported: make it anew with PBES2, PBKDF2 and AES, as `keytool -importkeystore -deststoretype PKCS12`, "+
		"`openssl pkcs12 -export` and `openssl pkcs8 -topk8 -v2 aes-256-cbc` do", what, name[:min(len(name), 80)])
}

var errTrailing = errors.New("something follows")

// unmarshal reads ASN.1 and refuses what follows it.
func unmarshal(der []byte, to any) error {
	rest, err := asn1.Unmarshal(der, to)
	if err == nil && len(rest) > 0 {
		err = errTrailing
	}
	return err
}
