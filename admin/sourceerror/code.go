// Package sourceerror names the error of a link or mirror for the trouble that its source makes.
// The control plane and the replicator share it, so that both name the same trouble alike; what
// they say beside the name depends on what they did.
package sourceerror

import (
	"klink/admin/model"
	"klink/internal/kafkaclient"
)

// Code returns the error for a kind of trouble.
func Code(t kafkaclient.Trouble) model.Error {
	switch t {
	case kafkaclient.TroubleToken, kafkaclient.TroubleAWS, kafkaclient.TroubleLogin, kafkaclient.TroubleTLS, kafkaclient.TroubleClosedAtOnce:
		return model.ErrAuthentication
	case kafkaclient.TroubleDenied:
		return model.ErrAuthorization
	case kafkaclient.TroubleConnect, kafkaclient.TroubleLost:
		return model.ErrBootstrapConnection
	case kafkaclient.TroubleTimeout:
		return model.ErrTimeout
	case kafkaclient.TroubleNotOffered:
		return model.ErrUnsupportedVersion
	}
	return model.ErrInternal
}
