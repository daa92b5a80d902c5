// Package awsiam logs in with SASL/AWS_MSK_IAM: it signs logins to Amazon MSK with AWS credentials,
// as the options of MSK's login module for Java say.
//
// options.go reads the options, credentials.go finds the credentials (environment, profile, web
// identity, instance role, assumed role; the AWS SDK does it), mechanism.go signs; the signature is
// franz-go's. It was tested against AWS's published examples and a broker that verifies it
// (mechanism_test.go), and never against MSK itself.
//
// credentials.mu is held while the configuration of the SDK is read from files; nothing is taken
// under it. The package may import the AWS SDK and franz-go's sasl packages, and nothing of klink.
package awsiam
