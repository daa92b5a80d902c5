// Package principal says by which name brokers know a client with a certificate: dn.go writes the
// subject of a certificate as Java does, and rules.go maps it as ssl.principal.mapping.rules does.
// It imports nothing of klink.
package principal
