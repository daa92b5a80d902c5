// Package facts looks things up for the router at the destination, off the event loops: brokers,
// topic ids, the physical offset of a logical one, and the offset of a record by its timestamp.
//
// Reading order: facts.go has Facts, which implements router.Facts, and its loop; topic_ids.go asks
// for topic ids, once for all who wait; learn_offset.go reads one batch of a log into a timeline;
// seek_time.go looks for a timestamp within batches; seeks.go bounds how many such looks there are.
//
// Locks: those of topicQuestions, looks and seeks are leaves. Facts.Close ends the loop and what it
// started. The package imports internal/kafkaclient, protocol and router.
package facts
