package tier_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mutant"
)

// finder says what finds out that a mechanism is missing.
type finder struct {
	mutant mutant.ID
	// The test that does so every time, in a package of the module:
	//
	//	TANDEM_MUTANT=<mutant> go test -tags mutants -run '^<test>$' ./<pkg>
	pkg, test string
	// The test of histories that does so within minutes, if one can:
	//
	//	TANDEM_MUTANT=<mutant> TANDEM_SOAK=5m go test -tags mutants -run '^TestSoak_<soak>$' ./tier
	soak string
}

// finders is the table of all mutants. `make mutants` runs it.
var finders = []finder{
	{mutant.NoStampCheck, "tier", "TestBoundedStaleness_otherNodeObeysEveryChange", "standalone"},
	{mutant.StampAfterRead, "tier", "TestNoStaleFill_replyBehindTheMessage", "standalone"},
	{mutant.NoEndBump, "tier", "TestReadYourWrites_readDuringAChange", "standalone"},
	{mutant.SetWithoutCAS, "tier", "TestNoStaleFill_setBehindAnothersChange", "standalone"},
	{mutant.NoConfirmTrust, "internal/fence", "TestConfirm_refusesADisturbedWrite", ""},
	{mutant.NoReplyCheck, "tier", "TestBoundedStaleness_replyAcrossAGap", ""},
	{mutant.PlainJoin, "tier", "TestReadYourWrites_doesNotJoinAnOlderLoad", "standalone"},
	{mutant.OldFlights, "tier", "TestBoundedStaleness_oldLoadIsNotJoined", ""},
	{mutant.NoPrefixFence, "tier", "TestCache_DeletePrefix_takesWholeSegmentsLiterally", "standalone"},

	{mutant.NoLease, "tier", "TestNoStaleFill_slowLoaderOfAnotherNode", "standalone"},
	{mutant.NoLeaseWait, "tier", "TestOneLoad_acrossNodes", "standalone"},
	{mutant.NoRenewal, "tier", "TestOneLoad_acrossNodes", "standalone"},
	{mutant.LeaseUnseen, "internal/l2", "TestRedis_conformance", ""},
	{mutant.FillUnderWriter, "tier", "TestOrderedUpdate_crashBesideOthers", ""},
	{mutant.PublishFirst, "tier", "TestBoundedStaleness_messageAndChangeAreOne", ""},
	{mutant.PublishApart, "tier", "TestCache_roundTrips", ""},
	{mutant.NoDeadline, "tier", "TestNothingForgotten_setThatRunsAfterItsReplay", ""},
	{mutant.RefusedStays, "tier", "TestNothingForgotten_refusedSetDeletesAtOnce", ""},
	{mutant.PrefixOfValues, "tier", "TestNoStaleFill_prefixOfALoadUnderWay", ""},
	{mutant.NoChecksum, "internal/l2", "TestParse_states", ""},
	{mutant.NoSchema, "tier", "TestCache_schemaOfAnotherVersionIsAMiss", ""},

	{mutant.BeginUnpublished, "tier", "TestOrderedUpdate_isHeardWhenItBegins", ""},
	{mutant.BeginTakesOver, "tier", "TestOrderedUpdate_crashBesideOthers", ""},
	{mutant.EndRegardless, "tier", "TestOrderedUpdate_disturbedStoresNothing", "standalone"},
	{mutant.DeleteOpens, "tier", "TestOrderedUpdate_crashBesideOthers", ""},
	{mutant.SetOpens, "tier", "TestOrderedUpdate_crashBesideOthers", ""},
	{mutant.NoSourceCompare, "tier", "TestSetVersioned_newestStaysInAnyOrder", "standalone"},
	{mutant.NoTombstone, "tier", "TestDeleteVersioned_keepsOlderWritesOut", "standalone"},
	{mutant.ReplayUnversioned, "tier", "TestNothingForgotten_replaysCarryTheVersion", ""},
	{mutant.VoidFallback, "tier", "TestStaleFor_deletedDuringTheLoadAndThenAlone", ""},

	{mutant.TagUnread, "tier", "TestNode_InvalidateTags_voidsWhatCarriesOneOfThem", "standalone"},
	{mutant.NoTagTie, "tier", "TestNode_InvalidateTags_voidsWhatCarriesOneOfThem", "standalone"},
	{mutant.NoTagFlights, "tier", "TestReadYourWrites_invalidateTagsForbidsJoins", ""},
	{mutant.TagAfterLoad, "tier", "TestNoStaleFill_slowLoaderAndItsTag", "standalone"},

	{mutant.NoGapEpoch, "tier", "TestBoundedStaleness_changeWhileNotSubscribed", "standalone"},
	{mutant.NoL1Lease, "tier", "TestBoundedStaleness_silentLink", ""},
	{mutant.NoSequences, "tier", "TestBoundedStaleness_lostMessage", "standalone"},
	{mutant.NoSilence, "tier", "TestBoundedStaleness_nodeThatIsNotHeard", ""},
	{mutant.NoBaseline, "invalidation", "TestTracker_olderNodesShareOneGap", ""},
	{mutant.SharedID, "tier", "TestBoundedStaleness_otherNodeObeysEveryChange", "standalone"},
	{mutant.ClearLastWins, "tier", "TestReadYourWrites_versionFromBeforeAClear", ""},
	{mutant.LearnsOnly, "tier", "TestBoundedStaleness_clearLearnedBeforeItsMessage", ""},
	{mutant.NoVersion, "tier", "TestCache_Clear_voidsEverythingInTheCacheAlone", "standalone"},

	{mutant.AnnouncedStays, "tier", "TestTracking_putsBackOnlyWhatStands", ""},
	{mutant.FlushStays, "tier", "TestTracking_memoryObeysFlushes", ""},
	{mutant.UntrackedTrust, "tier", "TestTracking_withoutAnnouncementsMemoryIsNotFresh", ""},

	{mutant.NoJournal, "tier", "TestNothingForgotten_deleteDuringAnOutageIsReplayed", "standalone"},
	{mutant.NoPoison, "tier", "TestNothingForgotten_owedKeyIsNotReadFromRedis", "standalone"},
	{mutant.PayUnheard, "internal/journal", "TestJournal_Pay_notIfOwedAgain", ""},
	{mutant.OverflowForgets, "tier", "TestNothingForgotten_overflowClearsTheCache", ""},
	{mutant.NotBeforeIgnored, "tier", "TestNothingForgotten_replayAwaitsTheDeadline", ""},

	{mutant.NoReissue, "tier", "TestNothingForgotten_restartFromAnOldFile", "sentinel"},
	{mutant.NoBars, "tier", "TestNothingForgotten_theOriginIsGone", ""},
	{mutant.RestartTrusts, "tier", "TestGuard_movesTheEpochBeforeAReplyIsUsed", ""},
	{mutant.NoClearOnLoss, "tier", "TestNothingForgotten_moreIsLostThanIsRemembered", ""},
	{mutant.LateRing, "tier", "TestNothingForgotten_lostBetweenTheCommandAndItsReply", ""},
	{mutant.NoGreet, "tier", "TestNothingForgotten_firstContact", ""},
	{mutant.BlindMark, "tier", "TestNothingForgotten_markOnAServerThatWasNotMet", ""},
}

// Every mutant has its test, and the checker finds at least twenty of them.
func TestMutants_tableIsComplete(t *testing.T) {
	listed := make(map[mutant.ID]int)
	bySoak := 0
	for _, f := range finders {
		listed[f.mutant]++
		if f.soak != "" {
			bySoak++
		}
		require.True(t, testExists(t, filepath.Join("..", f.pkg), f.test), "%s: there is no %s in %s", f.mutant, f.test, f.pkg)
	}
	for _, id := range mutant.All() {
		assert.Equal(t, 1, listed[id], "lines of %s", id)
	}
	assert.Len(t, finders, len(mutant.All()))
	assert.GreaterOrEqual(t, bySoak, 20)
}

func testExists(t *testing.T, dir, name string) bool {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	require.NoError(t, err)
	decl := regexp.MustCompile(`(?m)^func ` + regexp.QuoteMeta(name) + `\(t \*testing\.T\)`)
	for _, file := range files {
		src, err := os.ReadFile(file)
		require.NoError(t, err)
		if decl.Match(src) {
			return true
		}
	}
	return false
}

// Nothing is taken out of the build that is used.
func TestMutants_noneIsOn(t *testing.T) {
	for _, id := range mutant.All() {
		if id != mutant.ID(os.Getenv("TANDEM_MUTANT")) {
			assert.False(t, mutant.On(id), "%s", id)
		}
	}
}
