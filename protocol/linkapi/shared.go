package linkapi

// Config is one configuration entry of a request; a nil value is null.
type Config struct {
	Name  string
	Value *string
}

func (e *Config) fields(c *codec) {
	c.string(&e.Name)
	c.nullableString(&e.Value)
}

// NameResult is the outcome for one named link or topic.
type NameResult struct {
	Name         string
	ErrorCode    int16
	ErrorMessage *string
}

func (n *NameResult) fields(c *codec) {
	c.string(&n.Name)
	c.int16(&n.ErrorCode)
	c.nullableString(&n.ErrorMessage)
}

// Head has what the header of a message says about it, and the methods of kmsg's interfaces that
// are the same for all requests and responses.
type Head struct{ Version int16 }

// MaxVersion implements kmsg.Request and kmsg.Response.
func (*Head) MaxVersion() int16 { return 0 }

// SetVersion implements kmsg.Request and kmsg.Response.
func (h *Head) SetVersion(v int16) { h.Version = v }

// GetVersion implements kmsg.Request and kmsg.Response.
func (h *Head) GetVersion() int16 { return h.Version }

// IsFlexible implements kmsg.Request and kmsg.Response: every version is.
func (*Head) IsFlexible() bool { return true }

// response returns the head of the response.
func (h *Head) response() ResponseHead { return ResponseHead{Head: *h} }

// ResponseHead is the Head of a response, and the field that every response begins with.
type ResponseHead struct {
	Head
	ThrottleMs int32
}

// Throttle implements kmsg.ThrottleResponse.
func (h *ResponseHead) Throttle() (int32, bool) { return h.ThrottleMs, true }

// SetThrottle implements kmsg.SetThrottleResponse.
func (h *ResponseHead) SetThrottle(ms int32) { h.ThrottleMs = ms }
