package router

import (
	"fmt"

	"klink/protocol"
)

// refuseFollower closes the connection of a client that sends a request as a follower. A follower
// reads above the high watermark, and a leader counts its Fetch requests as copies of records. So a
// client that poses as a follower could make the leader confirm records that no broker has copied.
// A broker requires CLUSTER_ACTION for this, but only if it has an authorizer. Brokers do not
// replicate through klink, so klink serves no followers.
//
// fetch does the same for Fetch requests, as it reads them to their end anyway.
func refuseFollower(h protocol.RequestHeader, frame []byte) (d Decision, refused bool) {
	id, err := protocol.ReplicaID(frame, h)
	switch {
	case err != nil:
		return closeMalformed(h, err), true
	case id >= 0:
		return closeFollower(h, id), true
	}
	return d, false
}

func closeFollower(h protocol.RequestHeader, id int32) Decision {
	return closing(fmt.Errorf("request of API key %d version %d as broker %d: followers are not served through klink", h.Key, h.Version, id))
}
