// Package invalidation tells the nodes of a fleet what went stale.
//
// It has five parts. A [Message] names what went stale. A [Bus] carries
// messages to every node: [Redis] over pub/sub, [Local] within a process. An
// [Origin] numbers the messages of one node. A [Tracker] reads those numbers
// and finds out what never arrived. A [Tracking] has the servers themselves say
// which keys change, also by those who send no messages.
//
// Pub/sub forgets: what is published while a subscriber is away is gone, and
// most ways to be away are silent. So nothing here promises that a message
// arrives. What is promised is that its loss is noticed, in bounded time, and
// reported as a gap, after which a cache treats everything it held before as
// unproven.
//
// # Bus
//
//   - B1. One goroutine at a time calls a [Handler], in the order in which the
//     server delivered. Messages of the node itself are among them.
//   - B2. Gap is called when continuity is lost, as soon as that is noticed,
//     and again, with [GapSubscribed], when a subscription is confirmed (the
//     first included). From a GapSubscribed to the next Gap, what the
//     subscribed server delivered is complete.
//   - B3. Heard(t) is called only for a PING that was sent at t on a
//     subscription confirmed before t, after every message that the same server
//     delivered before the answer. A Gap voids what was heard before it: only a
//     later Heard is proof again. The refusal of a PING by a server that cannot
//     save (MISCONF) is an answer: that server goes on to deliver.
//   - B4. These are gaps: an error of the link, a server that is silent for
//     DeadAfter, answers missing or out of turn, a subscription that ends or
//     is confirmed twice, an oversized message, a message of a newer format (at
//     most one gap a second), a panic of the handler.
//   - B5. What is not a message of ours is counted and ignored.
//   - B6. Close is idempotent, returns within about two seconds on any network,
//     and no call of the handler begins after it.
//
// In plain words: a handler that serves from memory only while the last Heard
// is young, and forgets at every Gap, is never stale for longer than that age,
// as long as messages and answers come from one server.
//
// # Sequences
//
// In a cluster they do not: a message is published on one master, the
// subscription is on another, and the bus between them can lose or reorder.
//
//   - S1. An [Origin] numbers its messages 1, 2, 3 and so on, and announces in
//     each beat the last number given out, those that were lost for certain or
//     perhaps (excused), and those whose outcome is open.
//   - S2. A [Tracker] reports a gap when a number that a beat neither excuses
//     nor calls open has not arrived 250 ms after the beat.
//   - S3. It reports a gap when an origin that it knows has not beaten for two
//     of its announced intervals and has not said goodbye, and again every two
//     intervals until it beats or is forgotten ([SilenceRemembered]).
//   - S4. An origin that began after the subscription must account for every
//     number from 1 on. One that is older is taken as it is at its first beat,
//     since what it sent before the subscription is not ours to miss; if it
//     may have sent something in between, one gap follows ([GapBaseline]), shortly
//     after the subscription and common to all such origins. So a rolling deploy
//     causes no gap on the nodes that stay.
//   - S5. Whatever exceeds a bound (excused numbers, open numbers, holes,
//     origins) ends in a gap, never in silence.
//
// All of it within [Unnoticed] after the message was confirmed.
//
// Excusing is sound because a number is excused only when its sender still owes
// the invalidation and will send it again under a new number.
//
// # Changes by strangers
//
// [Tracking] reports what the servers announce to a [ChangeHandler]:
//
//   - C1. One goroutine at a time calls the handler, in the order in which each
//     server announced.
//   - C2. Every change of a key with the prefix is told, and every flush: by any
//     client and command, by expiry and by eviction, the process itself and the
//     keys of other databases included. Several changes of one key at about the
//     same time may be told once. What is told says nothing of what changed and
//     by whom.
//   - C3. Heard(t) is called when every master, as the client's cluster knew them
//     at t or later, has told all changes that it had confirmed before t to those
//     who made them. A Gap voids what was heard before it.
//   - C4. These are gaps: the loss and the return of a link to any master, a
//     server silent for DeadAfter, answers out of turn, more changes at once than
//     is bearable (65,536 keys or 4 MiB), a panic of the handler, a master that
//     leaves the cluster.
//   - C5. A server that answers and does not track is told as Refused. It proves
//     nothing until it does.
//
// Not announced, by Redis: SWAPDB. Not noticed here: a sentinel's or a cluster's
// old master that goes on answering. The owner sees it elsewhere and calls
// [Listener.Renew].
//
// # Not promised
//
//   - A message lost from an origin of which no beat has ever arrived is missed
//     with the first one that does, however long after, and never if the origin dies
//     before. An origin therefore beats once before its first message.
//   - Who may publish on the channel may forge messages. A forged message causes
//     misses; together with the loss of a real one it can hide that loss.
//   - A one-way partition of the cluster bus that outlasts [SilenceRemembered] is
//     not told from a crash of the origins behind it.
package invalidation
