package protocol

// Message describes what kmsg decodes for one API key: a request and its response.
type Message struct {
	Key int16
	// Max is the highest version that kmsg knows; versions begin at 0.
	Max int16
	// FlexibleFrom is the first version with tagged fields.
	FlexibleFrom int16
	// Request and Response are the shapes of the bodies.
	Request, Response Shape
}

// MessageOf returns the message of one of Kafka's own keys. ok is false for other keys, such as
// klink's link APIs.
func MessageOf(key int16) (m Message, ok bool) {
	m, ok = messages[key]
	return m, ok
}
