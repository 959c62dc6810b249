// Package l1 keeps decoded values in the memory of this process, within a
// budget of bytes. It is the only importer of ristretto, and hides what a caller
// of ristretto has to know.
//
// # Promise
//
// [Store.Get] never returns an entry that its fence, one of its tags or its age
// forbids. That is all that is promised of the contents: whether a Put is ever
// seen is up to the admission policy and to full queues. A value that is gone
// costs a read of the second tier.
//
// # A hit
//
// Four things make a hit, in this order: the time is read; the entry is found in
// a lock-free table of pointers in front of ristretto, which whatever the window and
// ristretto let go of leaves; fence, tags, lease and age are compared; one counter,
// which other running goroutines mostly do not write, is raised. Together they cost
// about what a hit in ristretto alone costs. Of a hot key, reading the time is more
// than half of it.
//
// Of many keys, most of what a hit costs is waiting for memory. So the table
// lies in the lines of the fence, and an entry is one piece of memory that holds its
// key, its value and, before the value, what a hit compares.
//
// # How ristretto is used
//
// Each rule answers a behavior of v2.4.2 that was reproduced.
//
//   - Of two sets of a new key in a row the first stays, and a deleted value may
//     come back. So every entry carries the stamp of its fence, compared on each
//     Get, and no call here is expected to remove anything for good.
//   - Del waits while the queue is full, and a Del that is applied late removes
//     a newer value. So it is never called: [Store.Drop] replaces the value in
//     place by nil, which frees it at once and waits for nothing. One that is still
//     in the window is freed when its turn comes.
//   - Close races with every other method and panics. A guard keeps them apart;
//     the words that it writes are striped, and lie beside the hit counters.
//   - The cost of a value replaced in place is lost when the queue is full, and
//     growing in place never evicts. So the store counts the bytes of the entries
//     that it handed over, refuses what exceeds the budget by more than an
//     eighth, and corrects the budget that ristretto sees by what it lost.
//   - A cost of zero is unbounded; costs here begin at the entry's own size.
//   - Callbacks run on callers' goroutines too, and twice for some evictions, then
//     with nil. They only add to atomic counters and skip nil.
//   - A new value is not found until the queue has been applied, and may be turned
//     away by then. So it is placed in the front table first, where the next Get
//     finds it, and ristretto is asked only when it has left a window of a
//     thirtieth of the budget. Of a window that holds many, sixteen leave at once:
//     each time ristretto is given something its goroutine wakes.
//   - A TTL inside ristretto reads two clocks on a hit and sweeps under locks.
//     Times stand in the entry instead; the policy evicts what nobody reads.
//   - Its metrics cost as much as the hit. They are off.
package l1
