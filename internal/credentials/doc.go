// Package credentials is the credential map: as whom klink logs in at brokers for a client that it
// has authenticated itself, because the brokers cannot see what the client has shown.
//
// map.go is the map in force, and parse.go its file. A principal that is not in the map has no
// credentials, whatever klink's own are. The package imports internal/kafkaclient and
// internal/follow.
package credentials
