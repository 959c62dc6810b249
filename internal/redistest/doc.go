// Package redistest runs real redis-server processes for tests, and breaks them.
//
// [Start] runs one server on loopback in a directory of its own, without
// persistence, and returns when it answers PING. The server ends with the test,
// and also when the test binary dies: no process outlives the tests.
//
// [StartCluster] and [StartSentinel] run several of them, [NewProxy] stands
// between a client and a server and breaks single connections, replies and
// messages.
//
// # Rules
//
//   - A redis-server that is missing fails the test, with the line that installs
//     it. Nothing is ever skipped: a silent skip is how a green run lies.
//   - Methods that cannot do what they say fail the test that started the
//     server, and print what the server wrote. They are to be called from the
//     goroutine of that test or of a subtest of it.
//   - Waiting is polling a real condition with a deadline, never a sleep.
//   - All methods may be called concurrently. Stop, Kill and Restart act one
//     after the other.
//   - A proxy is not seen by the nodes of a cluster or by sentinels: they
//     announce their own addresses, which clients then use.
//   - Redis 7.0 or newer is needed (or a fork of it), and a Unix.
package redistest
