// Package fence holds the stamps that make reads of a lossy store strict.
//
// The store under L1 proves nothing by holding a value: its writes are queued,
// may be dropped, and may come back after a delete. So every entry carries a
// [Stamp] that its reader took before it looked at the second tier, and it is
// used only while the [Fence] of its cache still shows that stamp.
//
// # Rules
//
//   - A read takes [Fence.Stamp] before it asks the second tier or a loader.
//   - An invalidation, own or received, calls [Fence.Move] before it is
//     reported as done. Whatever was stamped earlier is void from then on.
//   - A local write calls [Fence.Begin] before its command is sent and
//     [Fence.Confirm] after the reply. Both move the slot, so neither a read
//     that began before the write nor one that began during it leaves anything
//     valid. The write's own value is valid only if nobody else moved the slot
//     between the two.
//   - [Fence.Void] and [Fence.Prefix] void many keys at once. [Fence.Distrust]
//     demotes: what was stamped before is no longer fresh, but may serve while
//     the second tier does not answer.
//
// # Size
//
// Slots are shared by keys whose hashes collide. A collision can only void too
// much: it costs a miss and never a stale hit. With S slots and M live keys an
// invalidation voids M/S keys besides its own, so S should be at least the
// number of keys that the store can hold.
//
// # Cost
//
// Checking a stamp loads two words and writes nothing: the slot, which invalidations
// alone write, and the count of events (Void, Distrust, Prefix), which are rare. What
// happened is looked up once the count has moved. Beside the slots lies
// what the owner of the fence looks up by the same hash, so that both take one
// access to memory ([Line]).
package fence
