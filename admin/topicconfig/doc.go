// Package topicconfig reads and sets the configs of topics, at either cluster.
//
// topicconfig.go has one function for each request. Which configs a mirror should have is decided
// in package linkconfig, whose TopicConfig the answers are made of.
//
// The package has no state, no lock and no goroutine. It imports admin/linkconfig and
// internal/kafkaclient.
package topicconfig
