// Package store reads the trust and key stores that Kafka clients name in their ssl.* properties:
// PEM text, Java's JKS, and PKCS #12. It is pure: bytes go in, certificates and a key come out.
//
// A store may be a stranger's: whoever may create a link names a file and its password. So the
// package trusts no length and no count in it. It never allocates more than a few times the size of
// the store, and takes at most maxRounds rounds of hashing to make keys out of passwords. That is
// why it has decoders of its own. The libraries for these formats allocate what a count in the
// store says (80 GiB for 40 bytes), panic on a short key or initialization vector, or hash for as
// many rounds as the store says (2^31 take minutes); and in PKCS #12 that number may be encrypted,
// so that nobody can look at it before. hostile_test.go has such stores.
//
// Read store.go, then pem.go, jks.go and pkcs12.go, one for each format. pbe.go decrypts with a
// password; kdf.go and rc2.go are the old algorithms that PKCS #12 needs and Go does not have.
//
// The package has no locks and no goroutines, and imports nothing of klink. No error has a password
// in it, or anything that was encrypted.
package store
