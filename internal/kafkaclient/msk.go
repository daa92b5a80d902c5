package kafkaclient

import (
	"errors"
	"fmt"
	"strings"

	"klink/internal/kafkaclient/awsiam"

	"github.com/twmb/franz-go/pkg/sasl"
)

const (
	keyClientHandler = "sasl.client.callback.handler.class"
	mskModule        = "software.amazon.msk.auth.iam.IAMLoginModule"
	mskHandler       = "software.amazon.msk.auth.iam.IAMClientCallbackHandler"
)

// mskIAM returns the mechanism AWS_MSK_IAM.
func (p Properties) mskIAM(files Files, login Login) (sasl.Mechanism, error) {
	if err := login.module(mechanismMSKIAM, mskModule); err != nil {
		return nil, err
	}
	if handler := strings.TrimSpace(p[keyClientHandler]); handler != "" && handler != mskHandler {
		return nil, fmt.Errorf("%s: klink does not have this handler: want %s", keyClientHandler, mskHandler)
	}
	protocol, err := p.protocol()
	if err != nil {
		return nil, err
	}
	if protocol != protocolSASLSSL {
		return nil, errors.New("security.protocol: AWS_MSK_IAM needs SASL_SSL: who reads a login can use it for five minutes")
	}
	options, err := awsiam.ParseOptions(login.Options)
	if err != nil {
		return nil, fmt.Errorf("sasl.jaas.config: %w", err)
	}
	if !options.Own() {
		if err := files.allowAWS(); err != nil {
			return nil, err
		}
	}
	return awsiam.New(options), nil
}
