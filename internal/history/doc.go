// Package history records what the clients of a fleet of caches saw, and judges
// it by the promises alone.
//
// A run fills a [History]: every operation with its times, what the database
// committed and when, the loads, the faults, and what stands in every tier in
// the end. [Judge] then looks for a moment at which a promise was broken. It
// knows nothing of stamps, leases and messages, so it cannot share their errors.
//
// # The rules
//
//   - ReadYourWrites: a read returns nothing older than what the database held
//     when a change began that had returned on the read's node before it. A
//     change that is owed to Redis counts as well.
//     Only a node with a client of its user's may be served what came back with
//     a failover, until it looks at the server.
//   - BoundedStaleness: the same for changes of other nodes that Redis had
//     confirmed longer than Δ and the slack ago. While Redis does not answer
//     a node, what it serves may be older by [Promises.LocalTTL].
//   - Validity: a value is of its key, whole, was committed before the read
//     returned, and is not a version that says "deleted". Absent is only what was
//     absent.
//   - NoStaleFill and OrderedUpdate: when the faults have ended and nothing is
//     owed, every tier of every node holds what the database holds, or nothing.
//   - NothingForgotten: debts are paid soon after the last fault has ended.
//   - FailOpen: no read fails but by its loader or its caller, and none takes
//     longer than the time limit of Redis adds.
//   - OneLoad: loads of a key on a node overlap only around a change of the key.
//     In the fleet a small share may, since leases are lost with faults.
//
// # Windows
//
// What the documentation excepts is declared as a [Fault], counted in the
// [Verdict] and bounded: a window that does not close in time is a violation
// itself. Nothing widens a limit silently, but for measured [Span]s in which the
// whole process stood still.
//
// # Void runs
//
// A run that was too slow, hit no local tier, refused no fill or met no fault
// proves nothing. It is void, which fails as a violation does.
package history
