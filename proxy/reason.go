package proxy

// Reason says why a connection was closed. It labels the counters of Stats.
type Reason uint8

// The reasons for which a client connection ends.
const (
	ReasonClient        Reason = iota // the client closed it
	ReasonUpstream                    // the broker closed it
	ReasonDial                        // the broker could not be reached
	ReasonIdle                        // nothing moved for the idle time-out
	ReasonFrameSize                   // a request frame has an impossible size, or is too large
	ReasonRequest                     // the session refused a request (malformed, not offered, ...)
	ReasonResponse                    // the broker sent no valid response, or an unasked one
	ReasonWholeTooLarge               // a response to keep exceeds MaxWholeResponse
	ReasonTLS                         // a TLS handshake failed, or a record was bad
	ReasonLimit                       // MaxConnections or MaxConnectionsPerIP is exceeded
	ReasonDrain                       // klink is shutting down
	ReasonPanic                       // a bug; the stack is in the log
	ReasonInternal                    // no file descriptor, or another fault of this process
	ReasonLogin                       // no login within LoginTimeout; without SASL no request
	ReasonFrameTime                   // a request was not complete within FrameTimeout
	ReasonMemory                      // RequestMemory had no room for what the client had sent
	ReasonIdentity                    // the gate did not let the client in, or it is revoked
	ReasonServerName                  // the client asked for a server name that leads nowhere (SNI)
	ReasonProxyHeader                 // a load balancer sent no valid header of the PROXY protocol
	numReasons
)

var reasonNames = [numReasons]string{
	"client", "upstream", "dial", "idle", "frame_size", "request", "response", "whole_too_large", "tls", "limit", "drain",
	"panic", "internal", "login", "frame_time", "memory", "identity", "server_name", "proxy_header",
}

func (r Reason) String() string { return reasonNames[r] }

// Reasons lists all reasons, for telemetry.
func Reasons() []Reason {
	all := make([]Reason, numReasons)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}
