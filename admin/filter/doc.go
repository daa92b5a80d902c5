// Package filter reads the JSON of filter configs, and matches names with them. It is strict: a
// filter that is misread would sync too much or too little, in silence.
//
// Read reader.go first: it walks the JSON and says where it is wrong. names.go has the filters of
// groups and topics. Those of ACLs are in package acl.
//
// The package imports nothing of klink, has no state, and starts no goroutine.
package filter
