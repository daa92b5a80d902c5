package kafkaclient

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
)

// WithEndpoints returns f with the token endpoints that links may use, as whole URLs. Without any,
// links may use all that are https. A request to an endpoint has a path, and a user and a password,
// as the link says: what answers on http may be a program that takes it for a command.
func (f Files) WithEndpoints(urls []string) (Files, error) {
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
			return f, fmt.Errorf("%q is not a URL of the form https://HOST/PATH", s)
		}
		f.endpoints = append(slices.Clip(f.endpoints), u.String())
	}
	return f, nil
}

// allowEndpoint refuses a token endpoint that properties may not name.
func (f Files) allowEndpoint(u *url.URL) error {
	if f.any || slices.Contains(f.endpoints, u.String()) || len(f.endpoints) == 0 && u.Scheme == "https" {
		return nil
	}
	return fmt.Errorf("%s: links cannot use this token endpoint: klink's --link-token-endpoints must name it", keyTokenEndpoint)
}

// WithAWS returns f with the use of this machine's AWS credentials: those of the environment, of
// profiles and of the instance, and all roles that they may assume. They are klink's own. A link
// that may use them reads whatever they may read at any MSK cluster.
func (f Files) WithAWS() Files {
	f.aws = true
	return f
}

// allowAWS refuses this machine's AWS credentials to properties that may not use them.
func (f Files) allowAWS() error {
	if f.any || f.aws {
		return nil
	}
	return errors.New("sasl.jaas.config: links cannot use the AWS credentials of klink's machine (--link-aws-credentials is off): give the link its own with awsRoleArn, awsRoleAccessKeyId and awsRoleSecretAccessKey")
}
