package l2

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
)

// The part of Set and Delete for plain keys does what the rest of the script would
// do, whatever stands there: each kind of record, and each byte of a head changed.
func TestScripts_thePartForPlainKeysDoesAsTheRest(t *testing.T) {
	t.Parallel()
	client := plainClient(t, redistest.Start(t).Addr())
	ctx := t.Context()
	now := client.Time(ctx).Val()
	rec := record("k", "new")
	late := now.Add(time.Hour).UnixMicro()
	for name, tt := range map[string]struct {
		quick, whole *script
		args         []any
	}{
		"set": {
			newScripts().set, newScript(luaNumbers + luaRecord + "local SOURCE = Z8" + luaSet),
			[]any{rec[offVersion : offVersion+8], rec, 60_000, late},
		},
		"delete": {newScripts().del, newScript(luaNumbers + luaRecord + luaDelete), append([]any{"versionX"}, deleteArgs(DeleteOptions{})...)},
	} {
		require.NotEqual(t, tt.quick.sha, tt.whole.sha)
		require.NoError(t, client.ScriptLoad(ctx, tt.quick.src).Err())
		require.NoError(t, client.ScriptLoad(ctx, tt.whole.src).Err())
		for what, data := range heads(now) {
			var quick, whole outcomeOf
			pipe := client.Pipeline()
			quick.play(pipe, t, tt.quick, data, tt.args)
			whole.play(pipe, t, tt.whole, data, tt.args)
			_, _ = pipe.Exec(ctx)
			require.NoError(t, quick.reply.Err(), what)
			assert.Equal(t, whole.String(), quick.String(), "%s: %s", name, what)
			assert.InDelta(t, whole.ttl.Val().Seconds(), quick.ttl.Val().Seconds(), 5, "%s: %s", name, what)
		}
	}
}

// heads returns what may stand under a key.
func heads(now time.Time) map[string][]byte {
	all := map[string][]byte{"nothing": nil, "text": []byte("hello")}
	for _, kind := range []Kind{KindValue, KindNegative, KindTombstone, KindReader, KindWriter, KindHold} {
		for _, r := range []Record{
			{Kind: kind, Version: 7},
			{Kind: kind, Version: 7, Soft: true},
			{Kind: kind, Version: 7, Source: 9},
			{Kind: kind, Version: 7, Token: Token{1}, LeaseEnd: now.Add(5 * time.Minute).UnixMicro()},
			{Kind: kind, Version: 7, Token: Token{1}, LeaseEnd: now.Add(5 * time.Minute).UnixMicro(), Writers: 2, Source: 9},
		} {
			all[fmt.Sprintf("%c %v", kind, r)] = r.Append(nil, "k")
		}
	}
	for _, kind := range []Kind{KindValue, KindNegative} {
		good := (&Record{Kind: kind, Version: 7, Token: Token{1}, Payload: []byte("payload")}).Append(nil, "k")
		for at := range headLen {
			for _, with := range []byte{1, 0x80, 0xFF, good[at]} { // the last makes it 0
				bad := append([]byte{}, good...)
				bad[at] ^= with
				all[fmt.Sprintf("%c with byte %d changed by %x", kind, at, with)] = bad
			}
			all[fmt.Sprintf("%d bytes of %c", at, kind)] = good[:at]
		}
	}
	return all
}

// outcomeOf is what a script came to.
type outcomeOf struct {
	reply *redis.Cmd
	left  *redis.StringCmd
	ttl   *redis.DurationCmd
}

func (o *outcomeOf) play(pipe redis.Pipeliner, t *testing.T, sc *script, data []byte, args []any) {
	ctx := t.Context()
	pipe.Del(ctx, "k")
	if data != nil {
		pipe.Set(ctx, "k", data, time.Hour)
	}
	o.reply = pipe.EvalSha(ctx, sc.sha, []string{"k"}, append([]any{testChannel, "message"}, args...)...)
	o.left, o.ttl = pipe.Get(ctx, "k"), pipe.PTTL(ctx, "k")
}

func (o *outcomeOf) String() string { return fmt.Sprintf("%v, %q", o.reply.Val(), o.left.Val()) }
