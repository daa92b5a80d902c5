package protocol

// Message is what kmsg decodes for one key: a request and its response.
type Message struct {
	Key int16
	// Max is the highest version that kmsg knows; versions begin at 0.
	Max int16
	// FlexibleFrom is the first version with tagged fields.
	FlexibleFrom int16
	// Request and Response are the shapes of the bodies.
	Request, Response Shape
}

// MessageOf finds the message of a key of Kafka's; ok is false for others, such as klink's link
// APIs.
func MessageOf(key int16) (m Message, ok bool) {
	m, ok = messages[key]
	return m, ok
}
