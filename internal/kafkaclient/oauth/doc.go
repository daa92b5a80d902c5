// Package oauth logs in with SASL/OAUTHBEARER (RFC 7628): it gets access tokens as the configs of
// Java clients say, and keeps them fresh.
//
// Start at mechanism.go: every login asks the source of tokens (source.go) for one. The source asks
// a [Fetch] in good time before the token expires: a token endpoint (endpoint.go), a file
// (file.go), or the maker of unsecured tokens for development (unsecured.go). token.go reads what
// is in a token; policy.go says when the next one is due.
//
// source.mu is a leaf, and is not held while a token is fetched. A source has no end: its timer
// runs only for a token that a login has used, and fetches one more at most after the last login.
//
// Everything that a token endpoint sends is bounded, and its errors carry neither the client secret
// nor a token. The package may import franz-go's sasl packages, and nothing of klink.
package oauth
