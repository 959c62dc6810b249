// Package model checks the protocol of Tandem exhaustively: two nodes, one key,
// one Redis with a replica, a bus, and a database. Every step that another could
// come before is a step here (each look at memory, command, message, fault), and
// every order of them is tried, breadth first, so that what is found is short.
//
// It follows the code, whose names it uses: the fence and its epochs (void, trust),
// records that are value, lease and placeholder in one, flights, debts, the writer's
// bracket of Update, and the guard against servers that forget.
//
// # Failover
//
// Replication, snapshots and append-only files keep a beginning of a server's
// history. So the replica is what Redis held at some moment, marks and notes of the
// nodes included, and a failover puts it in Redis' place: it stands for a restart
// from an old file as well. Rings know of time only how many marks had been given
// out, which is all that they are asked about. How long a bar lasts, and how long
// another node's clearing is waited for, is not bounded: each may end at once.
// Links to the old server may be read to their end, and nobody publishes there any
// more. That clients go on writing to it (split brain) is not modeled, nor what of
// a cluster's slots another master holds.
//
// # What is checked
//
//   - A read never returns less than its node was promised when it began: what was
//     written on the node or processed by it, and, where time passes, what was
//     written longer ago than the limit of staleness.
//   - In no state would a read that began then hit less in memory.
//   - When nothing moves any more, what stands in Redis and what a node would serve
//     from memory is the database's value, or nothing.
//
// # Memory is an adversary
//
// The store of L1 is not modeled after ristretto's queues: it may return any entry
// that was ever put on the node, or none, on every look. What must hold under that
// holds under any order of its sets and deletes. So a stamp is all that stands
// between an old entry and a reader.
//
// # Switches
//
// [Switches] turns one mechanism off, or breaks it. Every one of them is found by a
// scenario, with the counter-example that [Result.Trace] tells. Run `make model`.
//
// States are told apart by 64-bit fingerprints, as TLC does it: with n states the
// chance that any two collide is about n²/2⁶⁵, below 10⁻⁵ for ten million.
package model
