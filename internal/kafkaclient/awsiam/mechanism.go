package awsiam

import (
	"context"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/aws"
)

// Mechanism is the name of the SASL mechanism.
const Mechanism = "AWS_MSK_IAM"

// userAgent is what a broker learns of the client. franz-go's own has the name of the machine.
const userAgent = "klink"

// New returns the mechanism with the credentials of options. Each login is signed for the broker
// that it goes to, and for five minutes: another broker cannot use it.
func New(o Options) sasl.Mechanism {
	c := &credentialsOf{options: o}
	return aws.ManagedStreamingIAM(func(ctx context.Context) (aws.Auth, error) {
		found, err := c.find(ctx)
		return aws.Auth{AccessKey: found.AccessKeyID, SecretKey: found.SecretAccessKey, SessionToken: found.SessionToken, UserAgent: userAgent}, err
	})
}
