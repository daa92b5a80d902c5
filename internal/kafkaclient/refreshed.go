package kafkaclient

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
)

// saslOpt is the option that sets the login. Unlike kgo.SASL's it can be recognized among others.
type saslOpt struct {
	kgo.Opt
	mechanism sasl.Mechanism
	files     Files // that the mechanism may use
}

func loginOpt(m sasl.Mechanism, files Files) kgo.Opt {
	return saslOpt{Opt: kgo.SASL(m), mechanism: m, files: files}
}

// Refreshed returns the options of properties with a login that is looked up anew for each
// connection: resolve returns the properties with what their references stand for now, used are
// those that opts were made of. So a client goes on with a password that has been changed.
func Refreshed(opts []kgo.Opt, used Properties, resolve func() (Properties, error)) []kgo.Opt {
	all := slices.Clone(opts)
	for i, o := range all {
		if o, ok := o.(saslOpt); ok {
			all[i] = loginOpt(&refreshed{name: o.mechanism.Name(), files: o.files, resolve: resolve, used: used, mechanism: o.mechanism}, o.files)
		}
	}
	return all
}

// refreshed is a mechanism that is made anew when the properties have changed. A mechanism that
// keeps something, such as a token, keeps it until then.
type refreshed struct {
	name    string
	files   Files
	resolve func() (Properties, error)

	mu        sync.Mutex
	used      Properties
	mechanism sasl.Mechanism
}

// Name implements sasl.Mechanism.
func (r *refreshed) Name() string { return r.name }

// Authenticate implements sasl.Mechanism.
func (r *refreshed) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	m, err := r.current()
	if err != nil {
		return nil, nil, err
	}
	return m.Authenticate(ctx, host)
}

func (r *refreshed) current() (sasl.Mechanism, error) {
	p, err := r.resolve()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if maps.Equal(p, r.used) {
		return r.mechanism, nil
	}
	m, err := p.mechanism(r.files)
	if err != nil {
		return nil, err
	}
	r.used, r.mechanism = p, m
	return m, nil
}
