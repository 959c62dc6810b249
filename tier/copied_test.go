package tier_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/invalidation"
	"github.com/tandemcache/tandem/tier"
)

// BoundedStaleness: a copy of the process, made while it ran, has its id and its
// numbers. What it changes passes for the node's own, until it beats.
func TestBoundedStaleness_copyOfTheProcess(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	c := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	require.NoError(t, c.Set(t.Context(), "1", row{Key: "1"}, 0))
	bus := srv.Client(t)
	heard := bus.Subscribe(t.Context(), "tandem:!bus:0")
	t.Cleanup(func() { require.NoError(t, heard.Close()) })
	var beat invalidation.Message
	await(t, "a beat", 10*time.Second, func() bool {
		raw, err := heard.ReceiveMessage(t.Context())
		require.NoError(t, err)
		beat, err = invalidation.Parse([]byte(raw.Payload))
		require.NoError(t, err)
		return beat.Kind == invalidation.KindBeat && beat.Seq > 0
	})
	await(t, "L1 to be trusted", 10*time.Second, func() bool {
		item, err := c.Lookup(t.Context(), "1")
		return err == nil && item.Tier == tier.TierL1
	})
	publish := func(m invalidation.Message) {
		raw, err := m.Append(nil)
		require.NoError(t, err)
		require.NoError(t, bus.Publish(t.Context(), "tandem:!bus:0", raw).Err())
	}
	srv.Do("del", "tandem:row:1")
	publish(invalidation.Message{Kind: invalidation.KindKeys, Node: beat.Node, Seq: beat.Seq, Cache: "row", Keys: []string{"1"}})
	beat.Beat.Age += time.Microsecond
	publish(beat)
	await(t, "what the copy deleted to go", 10*time.Second, func() bool {
		_, ok := c.Get(t.Context(), "1")
		return !ok
	})
}
