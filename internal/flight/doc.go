// Package flight collapses concurrent loads of a key into one.
//
// It runs on x/sync/singleflight, which executes a load once and fans its
// result out, and adds what that package leaves to its callers.
//
//   - A caller's context ends only that caller's wait. The load runs on a context
//     of its own, which ends when the last waiter has left, at the time limit, or
//     when the group closes. The limit is for the part of the load that asks for it.
//   - A load may go on although nobody waits: one begun in the background, or one
//     that a caller has left who had something else to answer with. [Slots] bounds
//     their number.
//   - A flight is joined only while its starter says that it is still valid, and
//     while it is younger than a limit: else a later read could be answered with
//     a value from before an invalidation. A flight that may not be joined goes
//     on for those who wait in it, beside its successor.
//   - A load that ignores its context frees the key at the time limit. Its late
//     result is dropped.
//   - A panic is raised again, with its value, in the caller whose function it
//     was; the others get a [PanicError]. singleflight's channels would end the
//     process instead. runtime.Goexit ends the caller's goroutine likewise, where
//     singleflight's channels would never deliver.
//   - A load that asks for its own key, directly or through other keys of the
//     same group, runs the inner function at once instead of waiting for itself.
//     The context that the load was given must be passed on for that. Two loads of
//     different callers that wait for each other's keys end at the time limit.
package flight
