package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/internal/kafkaclient"
	"klink/protocol/linkapi"
)

// requestTimeout is how long klink may take for one request of the command line; a failover waits
// for appends in flight.
const requestTimeout = 30 * time.Second

// properties returns the client properties of the cluster that the command line names. If only
// --bootstrap-server is given, the current context does not apply: its credentials are for another
// cluster.
func (a *app) properties() (kafkaclient.Properties, error) {
	p := kafkaclient.Properties{}
	if a.cluster != "" || a.bootstrap == "" {
		contexts, err := a.loadContexts()
		if err != nil {
			return nil, err
		}
		name := a.cluster
		if name == "" {
			name = contexts.Current
		}
		if name == "" && a.commandConfig == "" {
			return nil, usagef("no cluster given: use --bootstrap-server HOST:PORT, or create a context with `klink context create`")
		}
		if name != "" {
			stored, ok := contexts.Contexts[name]
			if !ok {
				return nil, fmt.Errorf("unknown context %q: see `klink context list`", name)
			}
			if p, err = stored.Resolve(); err != nil {
				return nil, fmt.Errorf("context %q: %w", name, err)
			}
		}
	}
	file, _, err := a.commandProperties()
	if err != nil {
		return nil, err
	}
	if file, err = file.Resolve(); err != nil {
		return nil, fmt.Errorf("--command-config: %w", err)
	}
	maps.Copy(p, file)
	if a.bootstrap != "" {
		p["bootstrap.servers"] = a.bootstrap
	}
	if p["bootstrap.servers"] == "" {
		return nil, usagef("no cluster given: use --bootstrap-server, or set bootstrap.servers in %s", a.commandConfig)
	}
	return p, nil
}

// cluster is a connection to a Kafka cluster, or to klink.
type cluster struct {
	*kgo.Client
	address string // as the person wrote it
}

// connect returns a client for the cluster that the command line names. It does not dial yet.
func (a *app) connect(opts ...kgo.Opt) (*cluster, error) {
	p, err := a.properties()
	if err != nil {
		return nil, err
	}
	return connectWith(p, opts...)
}

// connectWith returns a client for the cluster that p describes. It does not dial yet.
func connectWith(p kafkaclient.Properties, opts ...kgo.Opt) (*cluster, error) {
	all, err := p.Options()
	if err != nil {
		return nil, err
	}
	// franz-go knows no versions of the link API's keys, so no maximum may be set.
	all = append(all, kgo.MaxVersions(nil), kgo.RequestRetries(4))
	if p["client.id"] == "" {
		all = append(all, kgo.ClientID("klink-cli"))
	}
	client, err := kgo.NewClient(append(all, opts...)...)
	if err != nil {
		return nil, err
	}
	return &cluster{Client: client, address: p["bootstrap.servers"]}, nil
}

// withCluster calls f with a client of the cluster that the command line names.
func (a *app) withCluster(f func(cl *cluster, adm *kadm.Client) error, opts ...kgo.Opt) error {
	cl, err := a.connect(opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl.Client)
	adm.SetTimeoutMillis(int32(requestTimeout / time.Millisecond))
	return f(cl, adm)
}

// fail adds the address to a connection error.
func (cl *cluster) fail(err error) error {
	if err == nil || errors.As(err, new(*kerr.Error)) {
		return err
	}
	return fmt.Errorf("%s: %w", cl.address, err)
}

// request sends one request of the link API. If the server is not klink, the error says so.
func request[R any](ctx context.Context, cl *cluster, req kmsg.Request) (R, error) {
	var none R
	if err := cl.isKlink(ctx, req.Key()); err != nil {
		return none, err
	}
	resp, err := cl.Request(ctx, req)
	if err != nil {
		return none, cl.fail(err)
	}
	r, ok := resp.(R)
	if !ok {
		return none, fmt.Errorf("%s answered %s with a %T", cl.address, linkapi.Name(req.Key()), resp)
	}
	return r, nil
}

// isKlink returns an error if the server does not offer the link API.
func (cl *cluster) isKlink(ctx context.Context, key int16) error {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "klink", "cli"
	resp, err := req.RequestWith(ctx, cl.Client)
	if err != nil {
		return cl.fail(err)
	}
	older := false
	for _, k := range resp.ApiKeys {
		if k.ApiKey == key {
			return nil
		}
		older = older || k.ApiKey == linkapi.KeyListLinks
	}
	if older {
		return fmt.Errorf("the klink at %s is older than this command line and does not know %s: upgrade it first", cl.address, linkapi.Name(key))
	}
	return fmt.Errorf("%s is a Kafka broker, not klink: links and mirrors are managed at the address of a `klink serve` that does not run with --link-admin off", cl.address)
}

// resultError returns the error of one result in a response; nil for code 0.
func resultError(code int16, message *string) error {
	err := kerr.ErrorForCode(code)
	if err == nil {
		return nil
	}
	return codeError(err, message)
}

func codeError(err error, message *string) error {
	var code *kerr.Error
	if message != nil && *message != "" && errors.As(err, &code) {
		return &messageError{code: code, message: *message}
	}
	return err
}

// messageError is a Kafka error with the server's own message.
type messageError struct {
	code    *kerr.Error
	message string
}

func (e *messageError) Error() string { return e.message + " (" + e.code.Message + ")" }
func (e *messageError) Unwrap() error { return e.code }

// prefixed adds the name of the thing that an error is about, unless the text already has it.
func prefixed(kind, name string, err error) error {
	if err == nil || strings.Contains(err.Error(), name) {
		return err
	}
	return fmt.Errorf("%s %q: %w", kind, name, err)
}

// completion completes a command's arguments with names from the cluster. It completes nothing if
// the cluster cannot be reached quickly.
func (a *app) completion(list func(ctx context.Context, cl *cluster) ([]string, error)) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		cl, err := a.connect()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer cl.Close()
		ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
		defer cancel()
		names, err := list(ctx, cl)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
