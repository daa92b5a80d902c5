// Package notices tells people how a mirror's topic at the destination differs from what klink has
// made of it.
//
// notices.go has all of it: Of asks the destination once for many mirrors. The package keeps
// nothing, takes no lock and starts no goroutine.
//
// It imports admin/model, admin/store, admin/topicconfig and protocol/timeline.
package notices
