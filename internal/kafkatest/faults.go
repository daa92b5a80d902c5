package kafkatest

type Faults struct{}

func newFaults(target string) (*Faults, error) { return nil, nil }
func (f *Faults) Addr() string                 { return "" }
func (f *Faults) Close()                       {}
