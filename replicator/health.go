package replicator

import (
	"context"
	"errors"
	"fmt"
	"io"

	"klink/admin/model"
	"klink/admin/sourceerror"
	"klink/internal/kafkaclient"
)

// classify names why a check of the source failed.
func (s *source) classify(err error) (model.Error, string) {
	dial := s.lastDial.Last()
	if dial != nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
		err = dial
	}
	// The source closed the connection during the login: some brokers do not say that they refuse
	// the credentials.
	if dial != nil && s.sasl && errors.Is(err, io.EOF) {
		return model.ErrAuthentication, fmt.Sprintf("the source closed the connection during the login: %v; check sasl.mechanism and sasl.jaas.config", err)
	}
	trouble := kafkaclient.Classify(err)
	return sourceerror.Code(trouble), fmt.Sprintf(sourceTrouble[trouble], err)
}

// sourceTrouble says, for each kind of trouble, what the source did and what to do about it.
var sourceTrouble = map[kafkaclient.Trouble]string{
	kafkaclient.TroubleToken:        "no access token to log in to the source with: %v; check sasl.oauthbearer.token.endpoint.url, the client id and secret, and that the endpoint is up",
	kafkaclient.TroubleAWS:          "the login to the source cannot be signed: %v; check the options aws* in sasl.jaas.config, and the AWS credentials of klink's machine if the link uses them",
	kafkaclient.TroubleLogin:        "the source refuses the link's credentials: %v; correct sasl.mechanism or sasl.jaas.config",
	kafkaclient.TroubleTLS:          "TLS with the source failed: %v; correct security.protocol or the truststore",
	kafkaclient.TroubleClosedAtOnce: "the source closed the connection at once: %v; security.protocol or the credentials do not match its listener",
	kafkaclient.TroubleDenied:       "the source refuses the link: %v",
	kafkaclient.TroubleConnect:      "could not connect to the source: %v; check bootstrap.servers, its listeners and the network",
	kafkaclient.TroubleTimeout:      "the source did not answer in time: %v",
	kafkaclient.TroubleLost:         "the connection to the source was lost: %v",
	kafkaclient.TroubleNotKafka:     "the source cannot be used: %v",
	kafkaclient.TroubleOther:        "the source cannot be used: %v",
}
