// Package mutant takes single protective mechanisms out, to see that the tests
// notice.
//
// Each mechanism that keeps a promise asks here whether it is missing today:
//
//	if !mutant.On(mutant.NoEndBump) {
//		c.fence.Move(h)
//	}
//
// Without the build tag "mutants" the answer is the constant false, so that the
// compiler removes the question: it costs nothing, and no program that users
// build can be made to answer otherwise. With the tag the environment variable
// TANDEM_MUTANT names the one mechanism that is missing.
//
// A test that stays green with a mechanism taken out does not test it. The table
// in the tests of tier says for each mutant which test finds it; `make mutants`
// shows that they all do.
package mutant

// ID names a mechanism that can be taken out.
type ID string

// The stamps that make reads of L1 strict (package fence).
const (
	NoStampCheck   ID = "no-stamp-check"   // an invalidation drops the value in L1, and reads do not look at stamps
	StampAfterRead ID = "stamp-after-read" // the stamp is taken when the second tier has answered
	NoEndBump      ID = "no-end-bump"      // a local change moves the stamp when it begins, and not again at its end
	SetWithoutCAS  ID = "set-without-cas"  // a Set fills L1 although others changed the key meanwhile
	NoConfirmTrust ID = "no-confirm-trust" // a Set fills L1 although messages may have been missed meanwhile
	NoReplyCheck   ID = "no-reply-check"   // a reply is used although the epoch moved after it was asked for
	PlainJoin      ID = "plain-join"       // a load in flight is joined although the key changed since it began
	OldFlights     ID = "old-flights"      // a load in flight is joined however old it is
	NoPrefixFence  ID = "no-prefix-fence"  // a prefix that is deleted voids nothing in L1
)

// The permission to fill L2, and what changes it (package l2).
const (
	NoLease         ID = "no-lease"          // a fill stores although its lease is gone
	NoLeaseWait     ID = "no-lease-wait"     // a load that another node runs is not waited for
	NoRenewal       ID = "no-renewal"        // a lease is not renewed while its load runs
	LeaseUnseen     ID = "lease-unseen"      // a lease is granted although what was read is gone
	FillUnderWriter ID = "fill-under-writer" // a value that was loaded under a writer's bracket or a hold enters L1
	PublishFirst    ID = "publish-first"     // the message leaves before the change is made
	PublishApart    ID = "publish-apart"     // the message is a command of its own, after the change
	NoDeadline      ID = "no-deadline"       // a Set that is late stores all the same
	RefusedStays    ID = "refused-stays"     // what a refused Set leaves in Redis is not deleted
	PrefixOfValues  ID = "prefix-of-values"  // a prefix deletion passes placeholders over
	NoChecksum      ID = "no-checksum"       // a damaged record is believed
	NoSchema        ID = "no-schema"         // a record of another schema is decoded
)

// What keeps the database's order: brackets and versions of the source.
const (
	BeginUnpublished  ID = "begin-unpublished"  // the other nodes do not hear of a bracket until it ends
	BeginTakesOver    ID = "begin-takes-over"   // of two brackets that overlap, the later one may store
	EndRegardless     ID = "end-regardless"     // a bracket stores at its end whatever happened to its placeholder
	DeleteOpens       ID = "delete-opens"       // a Delete lets readers fill under an open bracket
	SetOpens          ID = "set-opens"          // a Set stores under an open bracket
	NoSourceCompare   ID = "no-source-compare"  // a versioned Set stores over a higher version
	NoTombstone       ID = "no-tombstone"       // a version that was deleted is not remembered
	ReplayUnversioned ID = "replay-unversioned" // a replay of a versioned change deletes what is newer
	VoidFallback      ID = "void-fallback"      // a value that was invalidated stands in for one that cannot be had
)

// Tags.
const (
	TagUnread    ID = "tag-unread"     // a record is believed whatever became of its tags
	NoTagTie     ID = "no-tag-tie"     // L1 does not notice that a tag was invalidated
	NoTagFlights ID = "no-tag-flights" // a load in flight is joined although a tag was invalidated since it began
	TagAfterLoad ID = "tag-after-load" // a value is stored with the versions that its tags have after its load
)

// What a node must hear (packages invalidation and tier).
const (
	NoGapEpoch    ID = "no-gap-epoch"    // messages may have been missed, and what is in L1 stays fresh
	NoL1Lease     ID = "no-l1-lease"     // L1 serves although nothing is heard
	NoSequences   ID = "no-sequences"    // the numbers of messages are not compared
	NoSilence     ID = "no-silence"      // a node that falls silent is not missed
	NoBaseline    ID = "no-baseline"     // what an older node sent before its first beat was heard is taken for heard
	SharedID      ID = "shared-id"       // all nodes have one id, and take messages of others for their own
	ClearLastWins ID = "clear-last-wins" // the version of a cache that was heard of last is believed, not the highest
	LearnsOnly    ID = "learns-only"     // a higher version of the cache that was read voids nothing in L1
	NoVersion     ID = "no-version"      // records of an older version of the cache are believed
)

// What servers announce (Config.Tracking).
const (
	AnnouncedStays ID = "announced-stays" // what a server says has changed stays in L1
	FlushStays     ID = "flush-stays"     // what L1 holds outlives a flush of Redis
	UntrackedTrust ID = "untracked-trust" // L1 serves although nothing that servers announce is heard
)

// What Redis has not confirmed (package journal and tier).
const (
	NoJournal        ID = "no-journal"         // a change that Redis did not confirm is forgotten
	NoPoison         ID = "no-poison"          // a key that is owed is served as any other
	PayUnheard       ID = "pay-unheard"        // a debt that was incurred again while it was paid is settled
	OverflowForgets  ID = "overflow-forgets"   // debts for which there is no room are dropped
	NotBeforeIgnored ID = "not-before-ignored" // a replay does not wait for the deadline of what it replays
)

// What a server may lose (packages l2 and tier).
const (
	NoReissue     ID = "no-reissue"       // what this node invalidated last is not issued again
	NoBars        ID = "no-bars"          // what other nodes invalidated last is served as any other
	RestartTrusts ID = "restart-trusts"   // the epoch of trust does not move at a restart
	NoClearOnLoss ID = "no-clear-on-loss" // more was lost than is remembered, and nothing is cleared
	LateRing      ID = "late-ring"        // an invalidation is remembered when its reply is there, not before it is sent
	NoGreet       ID = "no-greet"         // who is at the other end of a new connection is not asked
	BlindMark     ID = "blind-mark"       // a mark is left on any server, also on one whose own last mark was not read
)

// All returns every mutant.
func All() []ID {
	return []ID{
		NoStampCheck, StampAfterRead, NoEndBump, SetWithoutCAS, NoConfirmTrust, NoReplyCheck, PlainJoin, OldFlights, NoPrefixFence,
		NoLease, NoLeaseWait, NoRenewal, LeaseUnseen, FillUnderWriter, PublishFirst, PublishApart, NoDeadline, RefusedStays,
		PrefixOfValues, NoChecksum, NoSchema,
		BeginUnpublished, BeginTakesOver, EndRegardless, DeleteOpens, SetOpens, NoSourceCompare, NoTombstone, ReplayUnversioned,
		VoidFallback,
		TagUnread, NoTagTie, NoTagFlights, TagAfterLoad,
		NoGapEpoch, NoL1Lease, NoSequences, NoSilence, NoBaseline, SharedID, ClearLastWins, LearnsOnly, NoVersion,
		AnnouncedStays, FlushStays, UntrackedTrust,
		NoJournal, NoPoison, PayUnheard, OverflowForgets, NotBeforeIgnored,
		NoReissue, NoBars, RestartTrusts, NoClearOnLoss, LateRing, NoGreet, BlindMark,
	}
}
