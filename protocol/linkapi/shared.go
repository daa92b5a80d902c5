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
