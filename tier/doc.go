// Package tier is a generic, typed, two-tier cache: decoded values in this
// process' memory (L1) over Redis (L2), coherent between processes.
//
//	node, err := tier.Open(ctx, tier.Config{URL: "redis://localhost:6379/0", Prefix: "app"})
//	users, err := tier.New[User](node, "user", tier.Options[User]{})
//	u, err := users.GetOrSet(ctx, "123", tier.TTLMedium, func(ctx context.Context) (User, error) {
//		return db.User(ctx, "123")
//	})
//
// # Model
//
// A [Node] is one process' membership in a fleet that shares a Redis and a
// prefix. A [Cache] is a typed name on it; the Redis key of id 123 in the cache
// user under the prefix app is app:user:123. A [Counter] is a number in Redis
// alone. A zero [Config] makes a node without Redis: a complete in-memory cache
// with the same promises inside the process, and the fake for users' tests.
//
// A lookup goes
//
//  1. to L1: a hit if the entry's stamp is current, its time is not over, none of
//     its tags was invalidated, and the node can prove that it hears
//     invalidations. No round trip, no allocation.
//  2. to the stamp: what is invalidated from here on makes the result of this
//     lookup invalid, whatever happens in between.
//  3. to L2: a hit if the record is whole, of this schema and of the present
//     versions of the cache and of its tags, and its time is not over. One round
//     trip, and one more for tags that this node does not know.
//  4. (GetOrSet) to the flight of the key: one load at a time in this process.
//  5. to the lease of the key, held in its record in Redis: one load at a time
//     in the fleet. Who does not get it waits and looks again.
//  6. to the loader, and back: into L2 if the lease still stands, then into L1.
//
// When it misses in both tiers, a value that only age has ended may still answer:
// see Freshness.
//
// # Guarantees
//
// A change is Set, SetMany, SetVersioned, Update, Delete, DeleteVersioned, Expire,
// DeletePrefix, Clear or InvalidateTags. It completes when the call returns
// without ErrClosed, ErrKey or an error about a ttl. What is promised of Get and
// GetOrSet holds for each key of GetMany and GetOrSetMany.
//
//   - ReadYourWrites. After a change completed on a node, no read that begins
//     later on that node returns a value whose load or L2 read began before the
//     change. Reads do not join loads that began before it.
//   - NoStaleFill. A value loaded, or read from L2, before a change never enters
//     L2 after it, from any node, nor the L1 of a node that has processed the
//     change. If the permission to fill is gone for any reason (deleted,
//     expired, evicted, FLUSHALL, failover), the value is returned to the caller
//     and not stored.
//   - BoundedStaleness. After Redis acknowledged a change, every other node stops
//     serving the old value from L1 when the message arrives, and at the latest
//     Δ = [NodeStats].MaxStaleness later, even if messages are lost silently:
//     max(2 Heartbeat, 2 beat intervals + 750 ms), by default 2.75 s up to 100
//     nodes. The interval is Heartbeat, or 20 ms for each node of the fleet if that
//     is more, up to 100 nodes a second at most. The rest is what beats and messages
//     may be late. A node that cannot prove that it hears does not serve L1 as fresh
//     while Redis answers: it reads L2.
//   - NothingForgotten. A change that Redis did not confirm (down, breaker open,
//     timeout with unknown outcome) is kept and replayed as a deletion until
//     confirmed; until then this node serves the keys concerned from neither
//     tier: it loads. At most Config.MaxPending are kept; when there are more,
//     those of the cache that owes the most fold into clearing it whole. When Redis
//     restarts or fails over and may have lost what it had acknowledged, each node
//     makes its changes of the time in question again, and serves those that it had
//     heard of from neither tier until their origin has done so, or for 10 s, when
//     it does so itself. Changes of the last 30 s are remembered, MaxPending keys at
//     most; what Redis lost beyond that ends in clearing all caches.
//   - OrderedUpdate. [Cache.Update] brackets a write to the database. Two Updates,
//     or an Update and loads, on any nodes leave the cache equal to the database
//     or empty, never older; and a process that dies anywhere between the commit
//     and the end of Update leaves the key empty, not stale, in every tier of every
//     node, and to be cached again 5 s later. Without Redis there is no bracket: see
//     Update.
//   - FailOpen. A Redis that is down, slow, loading, read-only or full never turns
//     a read into an error, and never adds more than Config.Timeout to it, or to
//     each step of a batch; with the breaker open it adds nothing. Waiting for
//     another's load is not part of that, nor is the second look before an old
//     value of a node that does not hear (Freshness), a Config.Timeout at most.
//     Loaders run, L1 serves, and loads are still collapsed in the process.
//   - OneLoad. For one key, one load runs at a time in a process, and in the
//     fleet while leases work. A caller's cancellation ends its own wait; the
//     last one to leave cancels the load. A hung loader frees the key after
//     Options.LoadTimeout. Another process' load is waited for as long at most, and
//     that it hangs or has died is no error: the key is then loaded here, too, and
//     not stored. After a change, a new load may run beside the old one, which
//     nobody joins and whose result is not stored.
//   - Untrusted. Bytes from Redis are data. Truncated, corrupt, oversized,
//     foreign, older or newer records, keys of another type, and garbage on the
//     channel are counted misses: never a panic, a wrong value or unbounded
//     memory. Messages carry no values.
//
// Less formally: once your call to Delete has returned, your process will not
// see the old value again, and the others will not a moment later, or three
// seconds later if the network is against you; and no slow reader can put it
// back.
//
// # Which write to use
//
// Beside a database, in the order of preference:
//
//   - [Cache.Update] around the commit, where a stale value would hurt. Two round
//     trips; the key is not cached while the commit runs.
//   - [Cache.SetVersioned] and [Cache.DeleteVersioned], where values carry a version
//     of the database's own and writers come late, out of order or from a change
//     log. One round trip.
//   - [Cache.Delete] after the commit, where a crash of the process between the two
//     is acceptable: the old value then stays until its TTL. One round trip, and
//     right in whatever order several of them come.
//   - [Cache.Expire], where the old value was merely old and may stand in until the
//     new one is loaded.
//   - [Cache.Set] for what has no other home or a single writer. Beside a database
//     with several writers it is last-writer-wins in the order of Redis: the older
//     of two values may stay.
//
// What a process that dies leaves behind of a key that was cached:
//
//	it dies                         Update          SetVersioned    Delete
//	before the commit               empty for 5 s   what was there  what was there
//	between commit and the call     empty for 5 s   old until TTL   old until TTL
//	while Redis has not confirmed   empty for 5 s   old until TTL   old until TTL
//	likewise, but Redis was away    old until TTL   old until TTL   old until TTL
//	before the write to the database
//
// # Freshness
//
// A value is fresh for its TTL, which [Options].Jitter may have shortened. What
// reads do after parts of it:
//
//	age of the value       Get, Exists, TTL  Lookup          GetOrSet, Fetch
//	below RefreshAt        hit               hit             hit
//	below the TTL          hit               hit             hit, and a load in the
//	                                                         background
//	below TTL + StaleFor   miss              hit, marked     load; the old value if that
//	                                                         fails or takes SoftTimeout
//	above                  miss              ErrNotFound     load, or its error
//
// And, beside that table:
//
//   - Only age leaves a fallback, and Expire, which ends a TTL early. What was
//     deleted, cleared, invalidated or overwritten, on any node, is not served,
//     nor offered to a loader as Fill.Stale. After a load has failed L2 is asked
//     once more, so that what was deleted while it ran is not served either; and so
//     it is after SoftTimeout, if the node does not hear. Only while Redis does not
//     answer this goes by what the node has heard. Redis has then had a whole
//     Config.Timeout to answer, beside what the read had spent of its own.
//   - A fact that there is nothing (ErrNotFound) ends with its NegativeTTL and is
//     no fallback. A loader that states it has not failed: it ends the old value.
//   - After a load has failed, and an old value served instead, the loader of that
//     key rests in this process: for half a second to a second, or half to all of
//     the TTL if that is shorter. Callers get the old value at once meanwhile,
//     without a round trip if it is in L1. Errors are not cached: without an old
//     value every call loads.
//   - A refresh ahead is begun by a GetOrSet or Fetch, because Get has no loader.
//     Many callers begin one, and of many nodes the one that gets the lease, on the
//     record that is still fresh. It looks at L2 first, and what it loads is stored
//     only if nobody has changed the key since, as with any fill. The other nodes
//     are told if it changed the value. One that fails is tried again after a rest.
//   - Background loads are at most Config.MaxBackground at once; what is more is
//     skipped, and counted in NodeStats.Background. They end with LoadTimeout, and
//     with Close. Their errors are logged, at most one a second for each cache.
//   - While Redis does not answer, what is past its TTL serves only after the loader
//     has failed, whatever SoftTimeout is, and nothing is refreshed: what is loaded
//     then is not stored, so that a load which nobody waits for would be for
//     nothing.
//
// # What is not guaranteed
//
//   - Linearizability across nodes: inside Δ another node may serve what was
//     true a moment ago, and two reads on it may see new, then old, then new.
//   - The order of plain Sets. Set is last-writer-wins in the order of Redis,
//     which need not be the database's. And a Set whose outcome is unknown may
//     surface on other nodes, over a newer one, until the deletion that is owed
//     for it has been made: twice Timeout, and a moment.
//   - That a Set whose outcome is unknown stores nothing after the deletion that is
//     owed for it, if the clock of Redis was set back in between: it is told by that
//     clock that it is late.
//   - That the others see a change before Redis has confirmed it: until its replay,
//     within a second of Redis' return, they may serve the old value.
//   - What happened while a machine was suspended, its clocks with it: a node on it
//     serves L1 for at most 2 Heartbeats from when it goes on. Of a process that was
//     copied while it runs (a snapshot of its memory), original and copy take each
//     other's changes for their own until the next beat; they are slower from then
//     on, and as coherent as others.
//   - A commit that goes on after its context has ended and outlives the bracket
//     of its Update, in a process that then dies.
//   - Versions of SetVersioned that Redis has forgotten: with Clear, by eviction,
//     and when the time is over that is said there.
//   - Loaders that read a lagging replica of the database: give Options.Hold.
//   - Changes that the application makes before its database commits, or never.
//   - Debts of a process that dies: its unconfirmed changes are lost with it, and
//     what they concern is bounded by its TTL. [Node.Shutdown] waits for them.
//   - Changes by strangers (redis-cli DEL, FLUSHALL, eviction, expiry by hand):
//     L2 obeys at once, L1 serves on, for at most Options.Local.TTL. With
//     Config.Tracking, Redis announces them, and L1 obeys when the announcement
//     arrives, and at the latest 2 Heartbeats later, by the same proof of hearing
//     as for messages. Even then nobody is told of SWAPDB, and of a failover only
//     when this node notices it; a load in flight may be joined for as long after
//     a stranger's change as any load may, and is not stored.
//   - A restart or failover of Redis that loses acknowledged changes, for nodes
//     that had not heard of them yet: they may read the old value from L2 until
//     the origin has made the change again, some hundred milliseconds after it
//     meets the server; if the origin has died as well, until the TTL. A client
//     given in Config.Redis does not ask who is at the other end of a new
//     connection: on it a node may be served what came back until the next look
//     at the server, at most a Heartbeat later. A master of a cluster is met
//     when the client's map of slots names it, so a redirection may be ahead of that.
//   - A primary that was cut off and goes on answering (split brain), without
//     min-replicas-to-write: its nodes see their own part of the world.
//   - Secrecy and authenticity: who can write to Redis can forge records, unless
//     the codec encrypts.
//
// # Failure
//
//	what happens                    reads                             changes
//	Redis refuses or is down        L1 serves what is not expired,    made here, owed, nil
//	                                else the loader runs; after a     (ErrUnavailable if
//	                                few failures the breaker opens    Strict); replayed within
//	                                and Redis is not asked            a second of its return
//	Redis hangs                     as above, at most Timeout late    as above, at most twice
//	                                until the breaker opens           Timeout late
//	Redis is read-only              L2 hits serve; loads run, their   as above
//	                                results are not stored
//	Redis cannot save (MISCONF)     L1 and L2 hits serve; loads run,  as above
//	                                their results are not stored
//	Redis is full (noeviction)      L2 hits serve; loads run, their   Delete works; Set deletes
//	                                results are not stored            instead
//	Redis restarted empty           L1 demoted, L2 misses, one load   fine
//	                                a key
//	Redis comes back from an old    what is known to have been        fine; those that Redis may
//	file, or a replica that lagged  changed since is loaded, not      lack are made again, or the
//	is promoted                     served; the rest serves           caches are cleared when more
//	                                                                  was lost than is remembered
//	subscription cut or silent      L1 not served after 2 Heartbeats, fine
//	                                L2 instead; demoted on return
//	a message is lost               old value in L1 for at most Δ     fine
//	announcements cut or silent,    as if the subscription were       fine
//	or refused (Config.Tracking)
//	loader fails                    a value past its TTL if there is  -
//	                                one, else its error
//	loader panics                   panics in the caller that ran it, -
//	                                as above for those who joined
//	loader is slow                  a value past its TTL after        -
//	                                SoftTimeout; the load goes on
//	loader hangs                    as if it failed, at LoadTimeout   -
//	commit of an Update fails,      load, store nothing until the end Update deletes the key
//	panics or is canceled           of the bracket
//	the process of an Update dies   load, store nothing for 5 s       fine
//	Redis goes while an Update      as when it is down                commit's context ends
//	runs                                                              after 4 s; owed
//	process of a load dies          others wait out the lease (2 s)   -
//	wall clock jumps                nothing: only monotonic clocks    nothing
//	                                and the clock of Redis are used
//
// When Redis is back, what L1 holds is not fresh and comes back as it is asked for.
// That is bounded, however many nodes there are: at most six commands for each node
// and key in use, beside the ten a second with which a node watches Redis; no load of
// what Redis still has, else one for each key in the fleet, or two where more was lost
// than is remembered and the caches are cleared. Nodes notice at different
// moments within half a second, and each hears again, as a rule, some 50 ms after
// Redis has answered it; until then each of its reads asks Redis, but what many ask
// for at once is asked once.
//
// # Proof
//
// The promises and the rows above are held by these tests, among others. The
// checker of histories tries all of them at once, under faults (make soak), and
// each mechanism behind them was taken out to see that a test fails (make mutants).
//
//	ReadYourWrites                  TestReadYourWrites_stress, TestReadYourWrites_readDuringAChange, TestCluster_slotsMoveUnderTraffic
//	NoStaleFill                     TestNoStaleFill_stress, TestNoStaleFill_replyBehindTheMessage
//	BoundedStaleness                TestBoundedStaleness_otherNodeObeysEveryChange
//	NothingForgotten                TestNothingForgotten_deleteDuringAnOutageIsReplayed
//	OrderedUpdate                   TestOrderedUpdate_stress, TestOrderedUpdate_twoInEveryOrder
//	FailOpen                        TestFailOpen_stopped, TestFailOpen_stampedeWithoutRedisLoadsOnce
//	OneLoad                         TestOneLoad_acrossNodes, TestCache_GetOrSet_collapsesAStampede
//	Untrusted                       TestUntrusted_foreignBytesUnderAKey, TestUntrusted_garbageOnTheChannel, TestUntrusted_hostilePublisher
//	Redis refuses or is down        TestFailOpen_stopped, TestFailOpen_everyRefusal, TestOpen_withoutRedisAttachesLater, TestCluster_masterReplaced, TestCluster_masterOfTheVersionAway
//	Redis hangs                     TestFailOpen_frozen
//	Redis is read-only              TestFailOpen_readOnlyAndFull
//	Redis cannot save (MISCONF)     TestFailOpen_cannotSave, TestFailOpen_everyRefusal, TestRedis_refusedPingsAreAnswers (invalidation)
//	Redis is full (noeviction)      TestFailOpen_readOnlyAndFull
//	Redis restarted empty           TestFailure_restartedEmpty, TestFailure_fleetReconnects
//	Redis comes back from an old    TestNothingForgotten_restartFromAnOldFile, TestNothingForgotten_sentinelPromotesALaggingReplica, TestNothingForgotten_clusterReplacesAMaster
//	subscription cut or silent      TestBoundedStaleness_subscriptionKilled, TestBoundedStaleness_silentLink
//	a message is lost               TestBoundedStaleness_lostMessage, TestBoundedStaleness_measured
//	announcements cut or silent,    TestTracking_aLostConnectionIsAGap, TestTracking_withoutAnnouncementsMemoryIsNotFresh
//	loader fails                    TestCache_GetOrSet_neverStoresErrors
//	loader panics                   TestCache_GetOrSet_panicReachesTheCallerAndFreesTheKey
//	loader is slow                  TestSoftTimeout_answersInTimeAndTheLoadGoesOn
//	loader hangs                    TestLoadTimeout_freesTheKey, TestOneLoad_loaderHangsElsewhere
//	commit of an Update fails,      TestOrderedUpdate_failedCommitDeletes
//	the process of an Update dies   TestOrderedUpdate_crash
//	Redis goes while an Update      TestUpdate_redisGoesDuringCommit
//	process of a load dies          TestOneLoad_orphanedLease, TestOneLoad_leaseOutlastsThePatience
//	wall clock jumps                TestTime_redisClockJumps, TestHouse_noPromiseRestsOnAWallClock (internal/layout), TestClock_takesOverAJump (internal/l2)
//
// # Tags
//
// A tag stands for all values that carry it, in all caches of the fleet. Values
// get tags with Set, from Options.Tags, and from what the function of Fetch says
// in its Fill. [Node.InvalidateTags] raises the version of a tag in Redis, and
// values that were stored under an older one are void, in every tier.
//
// A value is stored under the versions from before its load. Where a tag is
// named by the loader alone, its version is compared with the time at which the
// load began, by the clock of the Redis that holds it: a tag that was invalidated
// since refuses the fill. If that cannot be told, because that clock is not known
// yet or has gone back, the fill is refused once, and the tag is known to the
// next load.
//
// Versions are kept in 16 keys beside the values, prefix:!tags:0 to 15. They have
// no TTL and must outlive the values: if one of them is lost (evicted, deleted by
// hand), all values under its tags are void. More than 8,192 tags invalidated in
// one of them has the same effect, once, and empties it.
//
// # Caller's duties
//
//   - Change the cache after the database has committed, not before, or with
//     Update around it.
//   - Loaders of one key compute the same value, whoever calls: a result is
//     handed to all who wait. Never load what a privileged caller may see under
//     a key that others read.
//   - Values are shared. Do not change them, or set Options.Clone.
//   - Call Close, or Shutdown.
//
// # Testing
//
// Use a node with the zero Config: it needs no server, and works inside
// testing/synctest bubbles, where TTLs pass in no time. Nodes that share an
// in-process bus (Config.Bus) behave like two processes.
package tier
