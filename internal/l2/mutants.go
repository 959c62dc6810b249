package l2

import (
	"context"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/mutant"
)

// scriptMutant is a mechanism in a part of a script: its text, and what is left
// when it is taken out.
type scriptMutant struct {
	id                    mutant.ID
	part, mechanism, rest string
}

func scriptMutants() []scriptMutant {
	return []scriptMutant{
		{mutant.NoLease, luaFill, "if not holds(ARGV[4]) or kind == 'w' then return 0 end\n", ""},
		{mutant.NoDeadline, luaSet, "if now > tonumber(ARGV[6]) then return -now end\n", ""},
		{mutant.NoDeadline, luaSetPlain, "if now > ARGV[6] + 0 then return -now end\n", ""},
		{mutant.LeaseUnseen, luaLease, "or not foreign and SEEN ~= Z8 then", "then"},
		{mutant.BeginUnpublished, luaBegin, "publish()\nreturn", "return"},
		{mutant.BeginTakesOver, luaBegin, "elseif not open and not held then", "elseif not held then"},
		{mutant.EndRegardless, luaEnd, "if holds(TOKEN) and kind == 'w' then", "if true then"},
		{mutant.DeleteOpens, luaDelete, "if open then", "if false then"},
		{mutant.SetOpens, luaSet, "if open then", "if false then"},
		{mutant.NoSourceCompare, luaSet, "if SOURCE ~= Z8 and less(SOURCE, floor) then", "if false then"},
		{mutant.NoTombstone, luaDelete, "local f, till = top(floor, source), 0", "local f, till = floor, 0"},
	}
}

// mutated returns the text of a script, without the mechanism that is taken out.
func mutated(src string) string {
	for _, m := range scriptMutants() {
		if mutant.On(m.id) {
			src = strings.Replace(src, m.part, strings.Replace(m.part, m.mechanism, m.rest, 1), 1)
		}
	}
	return src
}

// publishApart takes a message out of a change and sends it by itself: before
// the change, or when the function that it returns is called.
func (r *Redis) publishApart(ctx context.Context, msg *[]byte) func() {
	apart := *msg
	*msg = nil
	send := func() {
		if len(apart) > 0 {
			_ = r.client.Process(ctx, once{redis.NewCmd(ctx, "publish", r.opt.Channel, apart)})
		}
	}
	if mutant.On(mutant.PublishFirst) {
		send()
		return func() {}
	}
	return send
}

// holdsValue reports whether what stands under a key is more than a placeholder.
func (s *shard) holdsValue(ctx context.Context, key string) bool {
	kind, _ := s.node.Load().GetRange(ctx, key, 7, 7).Result()
	return kind == string(KindValue) || kind == string(KindNegative)
}
