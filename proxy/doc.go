// Package proxy moves Kafka frames between clients and brokers: sockets, event loops, TLS,
// dialling, back-pressure, time-outs and drain. It knows that a frame is a 4-byte big-endian size
// and as many bytes, and that the broker answers in the order in which it was asked; of Kafka it
// knows nothing else. What is to be done with a request is decided by a router.Session.
//
// # A request, step by step
//
//	accept (listener.go) -> TLS, enroll (setup.go) -> the client's socket on an event loop: a pair (pair.go)
//	the first whole request -> dial, enroll (setup.go) -> the broker's socket on the same event loop
//	handler.OnTraffic -> side.received -> inbox -> pair.advance
//	pair.requests: cut a frame, ask the session, carry out its decision   -> outbox of the broker's side -> socket
//	pair.responses: find the end of the response, pass it on as it comes  -> outbox of the client's side -> socket
//
// # Reading order
//
//	proxy.go      Proxy: New, Start, Shutdown; the locks
//	brokers.go    which port leads to which broker
//	listener.go   accepting: the limit of connections, running out of file descriptors
//	limits.go     how many connections an address may have, and how many may come in a second
//	setup.go      the goroutines of a connection: until it is on its loop, and until the broker is reached
//	pair.go       the state machine of a connection, with its invariants: start here for everything that follows
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
//	stats.go, reason.go, log.go      what people see
//
// # Locks and goroutines
//
// Everything in a pair belongs to the goroutine of its event loop and is touched nowhere else; who
// wants something from it (a finished Decision.Run, a writable socket, Shutdown) calls
// loop.execute. Event loops take a lock in the waiter, which is only used when a socket is full, in
// the budget when room is short, and when a connection ends. Proxy.mu is for Start, SetBrokers and
// Shutdown, and no event loop takes it. Stats are atomic.
//
// Every callback recovers: a panic costs the connection that it happened on, never the loop.
//
// # Memory
//
// For one connection, whatever it asks for: at most highWater and one read (1 MiB) on the way to a
// client that does not read, since the broker's socket is not read meanwhile; gateWater and one
// request on the way to a broker that does not read; and one request of up to MaxRequestBytes, for
// which memory is reserved only in proportion to what has arrived. All requests together stay
// within RequestMemory: a connection whose request does not fit is not read until there is room
// (budget.go). A response is kept whole only if a decision says so, up to MaxWholeResponse. An idle
// connection holds no buffer at all.
//
// # What gnet v2.10.0 does, and what it does not
//
//   - A Client is the event loops without listeners. Enrolling on a chosen loop goes through
//     EventLoop.Enroll, and the only way to a loop is a connection on it: Start enrolls one socket
//     pair per loop to get hold of them.
//   - Reading cannot be suspended, and nobody is told when a socket becomes writable or an outbound
//     buffer empty. So this package writes to the descriptor itself, keeps gnet's buffers empty
//     (Next(-1) in each OnTraffic), and changes the epoll interest through the loop's descriptor,
//     which it finds by reflection. The version is pinned for that reason; Start fails if the field
//     is not there.
//   - A read fills as much of the loop's buffer as there is. While memory is short the buffer is
//     made smaller, through the field buffer, which is found by reflection, too.
//   - EventLoop.Enroll returns a connection without an error even when epoll refused it: only
//     OnOpen says that it is there.
//   - OnTick runs on a goroutine of its own, not on a loop.
//   - Closing a connection inside its own OnTraffic is allowed; after OnClose the gnet.Conn still
//     answers Fd with a number that may be somebody else's by then.
//   - A panic in a task given to EventLoop.Execute ends the process, and its errors are dropped.
//   - gnet.Conn recycles the zone string of an IPv6 link-local address into its pool of byte slices
//     when it is released; that pool is only read through inbound buffers, which are never used
//     here.
package proxy
