package awsiam

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

const (
	// globalRegion is the region of STS if none is given, where its global endpoint is, too.
	globalRegion = "us-east-1"
	// searchLimit bounds how long finding credentials may take, an instance's metadata and STS
	// included.
	searchLimit = 30 * time.Second
	// early is how long before their end credentials are replaced.
	early = time.Minute
)

// Error says why there are no credentials. Like that of package oauth it is text only.
type Error struct{ text string }

func (e *Error) Error() string { return e.text }

// credentialsOf finds the credentials of options. The SDK keeps them until shortly before they
// expire.
type credentialsOf struct {
	options Options

	mu       sync.Mutex
	provider aws.CredentialsProvider // nil = not set up yet
}

// find returns credentials that are valid now.
func (c *credentialsOf) find(ctx context.Context) (aws.Credentials, error) {
	limited, cancel := context.WithTimeout(ctx, searchLimit)
	defer cancel()
	found, err := c.search(limited)
	switch {
	case err == nil:
		return found, nil
	case ctx.Err() != nil:
		return found, ctx.Err()
	}
	return found, &Error{"no AWS credentials: " + c.shortened(err.Error())}
}

func (c *credentialsOf) search(ctx context.Context) (aws.Credentials, error) {
	provider, err := c.setUp(ctx)
	if err != nil {
		return aws.Credentials{}, err
	}
	return provider.Retrieve(ctx)
}

func (c *credentialsOf) setUp(ctx context.Context) (aws.CredentialsProvider, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.provider != nil {
		return c.provider, nil
	}
	o := c.options
	load := []func(*config.LoadOptions) error{config.WithCredentialsCacheOptions(refreshEarly)}
	if o.Profile != "" {
		load = append(load, config.WithSharedConfigProfile(o.Profile))
	}
	if o.Own() {
		load = append(load, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(o.AccessKeyID, o.SecretAccessKey, o.SessionToken)))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, err
	}
	c.provider = cfg.Credentials
	if o.RoleARN != "" {
		cfg.Region = cmp.Or(o.STSRegion, globalRegion)
		c.provider = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), o.RoleARN, func(r *stscreds.AssumeRoleOptions) {
			r.RoleSessionName = o.RoleSessionName
			if o.RoleExternalID != "" {
				r.ExternalID = &o.RoleExternalID
			}
		}), refreshEarly)
	}
	return c.provider, nil
}

func refreshEarly(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = early }

// shortened returns what the SDK says, fit for an error.
func (c *credentialsOf) shortened(text string) string {
	const most = 300
	for _, secret := range []string{c.options.SecretAccessKey, c.options.SessionToken} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[hidden]")
		}
	}
	runes := slices.DeleteFunc([]rune(text), func(r rune) bool { return r < ' ' || r > '~' })
	if len(runes) > most {
		return string(runes[:most]) + "..."
	}
	return string(runes)
}
