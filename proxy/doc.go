// Package proxy moves Kafka frames between clients and brokers: sockets, event loops, TLS,
// dialling, back-pressure, time-outs and drain. It knows two things about Kafka: a frame is a
// 4-byte big-endian size followed by that many bytes, and a broker answers requests in the order in
// which it received them. A router.Session decides what happens to each request.
//
// # A request, step by step
//
//	accept (listener.go) -> PROXY header, TLS handshake, enroll (setup.go)
//	    -> the client's socket is on an event loop: a pair (pair.go)
//	the first whole request -> dial the broker, enroll (setup.go)
//	    -> the broker's socket is on the same event loop
//	handler.OnTraffic -> side.received -> inbox -> pair.advance
//	pair.requests: cut a frame, ask the session, carry out its decision
//	    -> outbox of the broker's side -> socket
//	pair.responses: find the end of the response, pass its bytes on as they arrive
//	    -> outbox of the client's side -> socket
//
// # Reading order
//
//	proxy.go      Proxy: New, Start, Shutdown; the locks
//	entrance.go   a listener: its ports for brokers, and the addresses that its clients are told
//	brokers.go    where ports lead
//	listener.go   accepting: the connection limit, running out of file descriptors
//	proxy_header.go, sni.go   who the client is, and which broker it asks for, if a load balancer
//	              or the TLS handshake says so
//	limits.go     connections per address, and connections accepted per second
//	gate.go       clients that klink itself authenticates, and its logins at brokers for them
//	setup.go      the goroutines of a connection: until it is on its loop, and while the broker
//	              is dialled
//	pair.go       the state machine of a connection, with its invariants: start here for
//	              everything that follows
//	requests.go   client -> broker, and what decisions mean
//	responses.go  broker -> client
//	entry.go      a request that waits for its answer
//	budget.go     the memory for requests, over all connections
//	side.go       one socket: sending, pausing; the marks of back-pressure
//	inbox.go, outbox.go, buffer.go   bytes and who owns them
//	tls.go, tls_slim.go   crypto/tls on an event loop, and its buffers while it idles
//	quiet.go      giving memory back after many connections were set up
//	handler.go, loop.go, wheel.go    gnet's events, ticks, the timer wheel
//	poller.go and poller_*.go        pausing a socket, and waiting until one is writable
//	stats.go, reason.go, log.go      counters, close reasons and log lines for operators
//
// # Locks and goroutines
//
// Only the goroutine of its event loop touches a pair. Every other goroutine that needs a pair (for
// a finished Decision.Run, a writable socket, or Shutdown) calls loop.execute. An event loop takes
// a lock in three places: in the waiter, which it uses only when a socket is full; in the budget
// when room is short; and when a connection ends. Proxy.mu is for Start, SetBrokers and Shutdown,
// and no event loop takes it. Stats are atomic.
//
// Every callback recovers from panics: a panic closes the connection on which it happened, and
// never ends the loop.
//
// # Memory
//
// Whatever the client asks for, one connection holds at most:
//
//   - for a client that does not read: highWater plus one read (1 MiB), because klink stops reading
//     the broker's socket
//   - for a broker that does not read: gateWater plus one request
//   - for a request that is still arriving: up to MaxRequestBytes, reserved only in proportion to
//     the bytes that have arrived
//
// All requests together stay within RequestMemory: klink does not read a connection whose request
// does not fit until there is room (budget.go). klink keeps a response whole only if a decision
// says so, up to MaxWholeResponse. An idle connection holds no buffer at all.
//
// # What gnet v2.10.0 does, and what it does not
//
//   - A Client is the event loops without listeners. EventLoop.Enroll puts a connection on a chosen
//     loop, but gnet exposes a loop only through a connection on it. So Start enrolls one socket
//     pair per loop to get hold of the loops.
//   - gnet can neither suspend reading nor report that a socket has become writable or an outbound
//     buffer empty. So this package writes to the descriptor itself, keeps gnet's buffers empty
//     (Next(-1) in each OnTraffic), and changes the epoll interest through the loop's descriptor,
//     which it finds by reflection. That is why the gnet version is pinned; Start fails if the
//     field is missing.
//   - A read fills as much of the loop's buffer as there is. While memory is short this package
//     shrinks that buffer, through the field buffer, which it also finds by reflection.
//   - EventLoop.Enroll returns a connection without an error even if epoll refused it: only OnOpen
//     confirms that the loop reads it.
//   - OnTick runs on a goroutine of its own, not on a loop.
//   - Closing a connection inside its own OnTraffic is allowed. After OnClose, gnet.Conn.Fd still
//     returns the old descriptor number, which another socket may have by now.
//   - A panic in a task given to EventLoop.Execute ends the process, and gnet drops the errors of
//     tasks.
//   - When gnet releases a Conn, it recycles the zone string of an IPv6 link-local address into its
//     pool of byte slices. Only inbound buffers read from that pool, and this package never uses
//     them.
package proxy
