package l2

import (
	"crypto/sha1"
	"encoding/hex"
	"strconv"
	"strings"
)

// script is a Lua script and the name that Redis knows it by.
type script struct {
	src, sha string
}

// scripts holds all of them. Each touches one key, needs nothing newer than
// Redis 6 and none of the libraries struct, bit, cjson and cmsgpack, so that it
// runs wherever plain Lua does, and never returns nil, which costs the client
// 35 allocations.
//
// Every script may run twice or late. What stores is bound to a token or to
// a deadline; everything else only takes away.
type scripts struct {
	lease, renew, release, fill    *script
	set, setVersioned, del, expire *script
	begin, end                     *script
	marker, raise                  *script
	bookRead, bookMake, bookRaise  *script
	add, take, count               *script
}

func newScripts() *scripts {
	record := func(body string) *script { return newScript(luaNumbers + luaRecord + body) }
	number := func(body string) *script { return newScript(luaNumbers + body) }
	book := func(mode string) *script { return number(luaDigits + "local MODE = '" + mode + "'" + luaBook) }
	return &scripts{
		lease: record(luaLease), renew: record(luaRenew), release: record(luaRelease), fill: record(luaFill),
		set:          newScript(luaSetPlain + luaNumbers + luaRecord + "local SOURCE = Z8" + luaSet),
		setVersioned: record("local SOURCE = sub(ARGV[4], 51, 58)" + luaSet),
		del:          newScript(luaDeletePlain + luaNumbers + luaRecord + luaDelete),
		expire:       record(luaExpire),
		begin:        record(luaBegin), end: record(luaEnd),
		marker: number(luaDigits + "local RAISE = false" + luaMarker), raise: number(luaDigits + "local RAISE = true" + luaMarker),
		bookRead: book("read"), bookMake: book("make"), bookRaise: book("raise"),
		add: newScript(luaAdd), take: newScript(luaTake), count: newScript(luaCount),
	}
}

func newScript(src string) *script {
	src = strings.NewReplacer(
		"$LONGEST", strconv.FormatInt(LongestLease.Microseconds(), 10),
		"$TOMBSTONE", strconv.FormatInt(tombstoneLife.Milliseconds(), 10),
		"$MAXWRITERS", strconv.Itoa(maxWriters),
		"$BOOKTAGS", strconv.Itoa(BookTags),
	).Replace(mutated(src))
	sum := sha1.Sum([]byte(src))
	return &script{src: src, sha: hex.EncodeToString(sum[:])}
}

// luaNumbers is what all scripts begin with that know versions and times.
//
// Times are microseconds, below 2^53 until the year 2255, so Lua's doubles hold
// them exactly. Versions take all 64 bits, so they stay strings of 8 bytes, big
// end first, and are compared byte by byte: Lua's < on strings goes by the
// server's locale.
const luaNumbers = `
local K, CHANNEL, MSG = KEYS[1], ARGV[1], ARGV[2]
local byte, char, rep, sub = string.byte, string.char, string.rep, string.sub
local Z8, Z16 = rep('\0', 8), rep('\0', 16)
local function num(s)
  local n = 0
  for i = 1, #s do n = n * 256 + byte(s, i) end
  return n
end
local function enc(n)
  local s = ''
  for i = 1, 8 do
    local b = n % 256
    s = char(b) .. s
    n = (n - b) / 256
  end
  return s
end
local function less(a, b)
  for i = 1, 8 do
    local x, y = byte(a, i), byte(b, i)
    if x ~= y then return x < y end
  end
  return false
end
local function top(a, b)
  if less(a, b) then return b end
  return a
end
local function publish()
  if MSG ~= '' then redis.call('PUBLISH', CHANNEL, MSG) end
end
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
`

// luaRecord reads the head of what stands under the key (parseHead, slot) and
// has the ways to replace it.
//
// The first write of a script is refused when memory is full, later ones are
// not. So put deletes first: an invalidation must get through. What stores
// a value, or a reader's placeholder that would be of no use without one,
// begins with SET and is refused as a whole.
const luaRecord = `
local VERSION = ARGV[3]
local head = redis.pcall('GETRANGE', K, 0, 57)
local ours, newer, foreign = false, false, false
local kind, soft, version, token, lease, writers, floor = '', 0, Z8, Z16, 0, 0, Z8
if type(head) == 'table' then
  if not string.find(head.err, 'WRONGTYPE', 1, true) then return head end
  foreign = true
elseif head ~= '' then
  local lead = byte(head, 1)
  if #head < 6 or lead < 144 or lead > 159 or sub(head, 2, 5) ~= '\164Tdm' then
    foreign = true
  elseif byte(head, 6) > 1 then
    newer = true
  else
    kind = sub(head, 8, 8)
    local want = 152
    if kind == 'v' or kind == 'n' then want = 159 end
    ours = #head == 58 and byte(head, 6) == 1 and lead == want
      and string.find('vntrwh', kind, 1, true) ~= nil and byte(head, 10) <= 1
      and sub(head, 7, 7) .. sub(head, 9, 9) == '\204\204'
      and sub(head, 11, 12) .. sub(head, 21, 22) == '\196\008\196\016'
      and sub(head, 39, 39) .. sub(head, 48, 48) .. sub(head, 50, 50) == '\207\204\207'
    foreign = not ours
    if ours then
      soft, version, token = byte(head, 10), sub(head, 13, 20), sub(head, 23, 38)
      lease, writers, floor = num(sub(head, 40, 47)), byte(head, 49), sub(head, 51, 58)
    else
      kind = ''
    end
  end
end
local live = ours and now < lease and lease <= now + $LONGEST
local open = live and (kind == 'w' or (kind == 'h' and writers > 0))
local held = live and kind == 'h' and writers == 0
local valued = newer or kind == 'v' or kind == 'n'
local function holds(t) return ours and kind ~= 'h' and t ~= Z16 and token == t end

local function make(k, s, v, t, till, w, f)
  return '\152\164Tdm\001\204' .. k .. '\204' .. char(s) .. '\196\008' .. v .. '\196\016' .. t ..
    '\207' .. enc(till) .. '\204' .. char(w) .. '\207' .. f
end
local function span(till, f)
  local px = math.max(math.ceil((till - now) / 500), 1)
  if f ~= Z8 then px = math.max(px, $TOMBSTONE, redis.call('PTTL', K)) end
  return px
end
local function put(data, px)
  redis.call('DEL', K)
  redis.call('SET', K, data, 'PX', px)
end
local function place(k, s, t, till, w, f)
  put(make(k, s, VERSION, t, till, w, f), span(till, f))
end
local function disturb(till, f, hold)
  local w, s = writers, 0
  if kind == 'w' then w = 1 elseif soft == 1 then s = 1 end
  if hold then s = 1 end
  place('h', s, token, till, w, f)
end
local function bury(till, f, life)
  if held and lease > till then till = lease end
  if till > 0 then
    put(make('h', 1, VERSION, Z16, till, 0, f), math.max(span(till, f), f ~= Z8 and life or 0))
  elseif f ~= Z8 then
    local px = math.max($TOMBSTONE, life)
    if ours then px = math.max(px, redis.call('PTTL', K)) end
    put(make('t', 0, VERSION, Z16, 0, 0, f), px)
  else
    redis.call('DEL', K)
  end
end
local function remove() bury(0, floor, 0) end
local function setlease(t, till)
  redis.call('SETRANGE', K, 20, '\196\016' .. t .. '\207' .. enc(till))
  local px, ttl = span(till, Z8), redis.call('PTTL', K)
  if ttl >= 0 and ttl < px then redis.call('PEXPIRE', K, px) end
end
local function store(rec, ttl)
  local r
  if ttl > 0 then r = redis.pcall('SET', K, rec, 'PX', ttl) else r = redis.pcall('SET', K, rec) end
  if r.err then return r end
  if less(sub(rec, 51, 58), floor) then redis.call('SETRANGE', K, 50, floor) end
  return nil
end
`

// luaLease: seen version (zeros: none), replaceable, token, microseconds.
// Returns kind of grant, wait, now.
//
// A key that is absent although a record was seen is "changed", not granted:
// the caller might go on using the value it saw (as a fallback, as not
// modified), and that one was deleted.
const luaLease = `
local SEEN, REPLACE, TOKEN, till = ARGV[4], ARGV[5] == '1', ARGV[6], now + tonumber(ARGV[7])
if newer then return {5, 0, now} end
local same = ours and SEEN ~= Z8 and SEEN == version
local function reader(f)
  redis.call('SET', K, make('r', 0, VERSION, TOKEN, till, 0, f), 'PX', span(till, f))
  return {1, 0, now}
end
if not ours then
  if foreign and not REPLACE or not foreign and SEEN ~= Z8 then return {4, 0, now} end
  return reader(Z8)
end
local mine = holds(TOKEN)
if kind == 'r' or kind == 'w' or kind == 'h' then
  if live and kind == 'r' and not mine then return {2, lease - now, now} end
  if live and kind ~= 'r' then return {3, lease - now, now} end
  if SEEN ~= Z8 and not same then return {4, 0, now} end
  return reader(floor)
end
if not same and (SEEN ~= Z8 or kind ~= 't') then return {4, 0, now} end
if live and not mine then return {2, lease - now, now} end
setlease(TOKEN, till)
return {1, 0, now}
`

// luaRenew: token, microseconds, writer. A placeholder is put anew, since
// a bracket must not end because memory is full.
const luaRenew = `
local TOKEN, till = ARGV[4], now + tonumber(ARGV[5])
local shared = ARGV[6] == '1' and kind == 'h' and writers > 0
if holds(TOKEN) and valued then
  setlease(TOKEN, till)
  return 1
elseif holds(TOKEN) then
  put(make(kind, soft, version, token, till, writers, floor), span(till, floor))
  return 1
elseif shared then
  if live then till = math.max(till, lease + 1) end
  put(make(kind, soft, version, token, till, writers, floor), span(till, floor))
  return 1
end
return 0
`

// luaRelease: token.
const luaRelease = `
if not holds(ARGV[4]) or kind == 'w' then return 0 end
if kind == 'r' then remove() else redis.call('SETRANGE', K, 20, '\196\016' .. Z16 .. '\207' .. Z8) end
return 1
`

// luaFill: token, record, milliseconds. A record that carries a version of its
// source is compared with the floor, one without is not.
const luaFill = `
if not holds(ARGV[4]) or kind == 'w' then return 0 end
local source = sub(ARGV[5], 51, 58)
if source ~= Z8 and less(source, floor) then return 0 end
local refused = store(ARGV[5], tonumber(ARGV[6]))
if refused then return refused end
publish()
return 1
`

// luaPlain is true if there is nothing under the key, or a value that no
// placeholder, tombstone or source version has a say in: the first 58 bytes of such
// a record, with a floor of zero. Set and Delete, whose scripts take most of their
// time to define what they then do not need, do such a key's work at once; what
// follows them does the same for every other.
//
// luaStored is luaPlain for Set, which need not tell a record that is damaged from
// one that is not: it takes the place of both. So it looks at less.
//
// These lines decide what a Set costs, so they are of few tables and strings: one
// literal pattern or two short pieces, numbers that Redis need not print, locals
// instead of globals, no local functions.
const (
	luaHead = `
local K, ARGV, call, try = KEYS[1], ARGV, redis.call, redis.pcall
local head = try('GETRANGE', K, '0', '57')
`
	luaPlain = `(head == '' or type(head) == 'string' and string.find(head, ` +
		`'^\159\164Tdm\001\204[vn]\204[%z\001]\196\008........\196\016................\207........\204.\207%z%z%z%z%z%z%z%z$'))`
	luaStored = `(head == '' or type(head) == 'string' and string.sub(head, 51) == '\0\0\0\0\0\0\0\0' and ` +
		`(string.sub(head, 1, 8) == '\159\164Tdm\001\204v' or string.sub(head, 1, 8) == '\159\164Tdm\001\204n'))`
)

const luaSetPlain = luaHead + `
if ` + luaStored + ` then
  local clock = call('TIME')
  local now = clock[1] * 1000000 + clock[2]
  if now > ARGV[6] + 0 then return -now end
  local r
  if ARGV[5] == '0' then r = try('SET', K, ARGV[4]) else r = try('SET', K, ARGV[4], 'PX', ARGV[5]) end
  if r.err then return r end
  if ARGV[2] ~= '' then call('PUBLISH', ARGV[1], ARGV[2]) end
  return 1
end
`

const luaDeletePlain = luaHead + `
if ARGV[4] == '0' and ARGV[5] == '0' and ARGV[6] == '\0\0\0\0\0\0\0\0' and ` + luaPlain + ` then
  call('DEL', K)
  if ARGV[2] ~= '' then call('PUBLISH', ARGV[1], ARGV[2]) end
  if head == '' then return 0 end
  return 1
end
`

// luaSet: record, milliseconds, deadline. Returns 1 stored, 2 barred, 3 older,
// or minus now when it is late. SOURCE is the version to compare, if any.
const luaSet = `
if now > tonumber(ARGV[6]) then return -now end
if open then
  disturb(lease, top(floor, SOURCE), false)
  publish()
  return 2
end
if SOURCE ~= Z8 and less(SOURCE, floor) then
  remove()
  publish()
  return 3
end
local refused = store(ARGV[4], tonumber(ARGV[5]))
if refused then return refused end
publish()
return 1
`

// luaDelete: not before, hold in microseconds, source version, milliseconds of
// a tombstone. Returns 1 if a value was there, else 0, or minus the
// microseconds to wait when it is too early.
//
// It writes even where it finds nothing: on a server that has become
// a replica, and may have lost what it should delete, it must fail.
const luaDelete = `
local early, hold, source, life = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7])
if early > 0 and now <= early then return now - early - 1 end
local f, till = top(floor, source), 0
if hold > 0 then till = now + hold end
local had = 0
if open then
  if hold > 0 then till = math.max(till, lease + 1) else till = lease end
  disturb(till, f, hold > 0)
elseif source == Z8 or not less(source, floor) then
  if valued then had = 1 end
  bury(till, f, life)
end
publish()
return had
`

// luaExpire: SETRANGE is refused when memory is full; then the value goes, which
// is more than was asked for and always right.
const luaExpire = `
if open then
  disturb(lease, floor, false)
elseif ours and valued then
  local r = redis.pcall('SETRANGE', K, 8, '\204\001\196\008' .. VERSION .. '\196\016' .. Z16 .. '\207' .. Z8)
  if type(r) == 'table' and r.err then remove() end
else
  remove()
end
publish()
return 1
`

// luaTokens adds tokens, or takes one off again (sign -1), byte by byte: a no-store
// placeholder carries the sum of the tokens of its open writers. So the last end
// is known from one that was never counted, of a bracket that was lost before:
// that one must not open the placeholder for readers while a writer is at work.
const luaTokens = `
local TOKEN = ARGV[4]
local function sum(a, b, sign)
  local s = ''
  for i = 1, 16 do s = s .. char((byte(a, i) + sign * byte(b, i)) % 256) end
  return s
end
`

// luaBegin: token, microseconds. Returns when the placeholder ends, and when the
// one does that it found; zeros for the only open writer.
const luaBegin = luaTokens + `
local till = now + tonumber(ARGV[5])
local left, found = 0, 0
if holds(TOKEN) and kind == 'w' then
  put(make('w', 0, version, TOKEN, till, 1, floor), span(till, floor))
elseif not open and not held then
  place('w', 0, TOKEN, till, 1, floor)
else
  local s = 0
  if kind == 'h' then s = soft end
  left, found = math.max(till, lease + 1), lease
  place('h', s, sum(token, TOKEN, 1), left, math.min(writers + 1, $MAXWRITERS), floor)
end
publish()
return {left, found}
`

// luaEnd: token, record (may be empty), milliseconds, and what Begin returned: when
// the placeholder ends, and when the one before would have. Returns 1 if stored.
//
// If nobody has lengthened the placeholder since, it is left to end when it would
// have: else a writer whose process has died would keep the key empty for as long
// as others come. Who lengthened it was alive, and is not known apart from those.
//
// Another writer's live placeholder is disturbed: ours is gone, so the two
// commits may have overlapped, and neither may store. One that is left with a sum
// of tokens that is not the caller's stands until its end: whose end is missing
// is not known.
const luaEnd = luaTokens + `
local stored = 0
if open and kind == 'h' and lease == tonumber(ARGV[7]) then lease = math.min(lease, tonumber(ARGV[8])) end
if holds(TOKEN) and kind == 'w' then
  if ARGV[5] ~= '' and not store(ARGV[5], tonumber(ARGV[6])) then stored = 1 else remove() end
elseif open and kind == 'w' then
  disturb(lease, floor, false)
elseif open and writers > 1 then
  local w, left = writers, token
  if w < $MAXWRITERS then w, left = w - 1, sum(token, TOKEN, -1) end
  place('h', soft, left, lease, w, floor)
elseif open and token ~= TOKEN then
  stored = 0
elseif open and soft == 1 then
  place('h', 1, Z16, lease, 0, floor)
else
  remove()
end
publish()
return stored
`

// luaDigits is for versions that stand in Redis as decimal digits.
const luaDigits = `
local END = rep('\255', 8)
local function parse(text)
  if #text > 20 or not string.find(text, '^%d+$') then return Z8 end
  local b, carry = {0, 0, 0, 0, 0, 0, 0, 0}, 0
  for i = 1, #text do
    carry = byte(text, i) - 48
    for j = 8, 1, -1 do
      local x = b[j] * 10 + carry
      b[j] = x % 256
      carry = (x - b[j]) / 256
    end
    if carry > 0 then return Z8 end
  end
  return char(b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8])
end
local function inc(s)
  local i = 8
  while byte(s, i) == 255 do i = i - 1 end
  return sub(s, 1, i - 1) .. char(byte(s, i) + 1) .. rep('\0', 8 - i)
end
local function digits(s)
  local text, rest = '', {byte(s, 1, 8)}
  repeat
    local carry, any = 0, false
    for j = 1, 8 do
      local x = carry * 256 + rest[j]
      rest[j] = math.floor(x / 10)
      carry = x - rest[j] * 10
      any = any or rest[j] > 0
    end
    text = char(48 + carry) .. text
  until not any
  return text
end
local function tell(msg, version)
  if msg ~= '' then redis.call('PUBLISH', CHANNEL, sub(msg, 1, -9) .. version) end
end
`

// luaMarker: floor. Returns the version, 8 bytes. What stands there and is not
// a number of 64 bits is a missing marker.
const luaMarker = `
local FLOOR = ARGV[3]
local text = redis.pcall('GETRANGE', K, 0, 20)
local current = Z8
if type(text) == 'table' then
  if not string.find(text.err, 'WRONGTYPE', 1, true) then return text end
else
  current = parse(text)
end
if current ~= Z8 and not RAISE then return current end
if current == END or FLOOR == END then return redis.error_reply('ERR marker overflow') end
local new = top(enc(now), inc(FLOOR))
if current ~= Z8 then new = top(new, inc(current)) end
redis.call('DEL', K)
redis.call('SET', K, digits(new))
tell(MSG, new)
return new
`

// luaBook: message for all tags of the book, floor, names. Returns '1' if all
// tags were raised, else '0', then the base, zeros for a missing book, then the
// versions of the names in order, 8 bytes each; after '1' all are the base.
//
// A book that is damaged where this call looks is a missing one. Each version
// that is given out is above every one that the book has given out before.
//
// The first write of a script is refused when memory is full, later ones are
// not: so it takes away first, if only what is never there.
const luaBook = `
local WIDE, FLOOR = ARGV[3], ARGV[4]
local base, high, versions = Z8, Z8, {}
local head = redis.pcall('HMGET', K, '', '\10')
if head.err then
  if not string.find(head.err, 'WRONGTYPE', 1, true) then return head end
else
  base = parse(head[1] or '')
  high = top(base, parse(head[2] or ''))
end
local there = base ~= Z8
for i = 5, there and #ARGV or 0 do
  local text, v = redis.call('HGET', K, ARGV[i]), base
  if text then
    v = parse(text)
    there = there and v ~= Z8
    v = top(v, base)
  end
  high = top(high, v)
  versions[i - 4] = v
end
if MODE == 'read' and not there then return '0' .. Z8 end
if MODE ~= 'raise' and there then return '0' .. base .. table.concat(versions) end
if high == END or FLOOR == END then return redis.error_reply('ERR marker overflow') end
local new, name = top(top(enc(now), inc(FLOOR)), inc(high)), ARGV[5]
if not there or MODE == 'make' or name == ''
  or redis.call('HLEN', K) >= $BOOKTAGS + 2 and redis.call('HEXISTS', K, name) == 0 then
  redis.call('DEL', K)
  redis.call('HSET', K, '', digits(new), '\10', digits(new))
  tell(WIDE, new)
  return '1' .. new
end
redis.call('HDEL', K, '\11')
redis.call('HSET', K, name, digits(new), '\10', digits(new))
tell(MSG, new)
return '0' .. base .. new
`

// Counters are numbers for Redis alone: INCRBY counts exactly in 64 bits, which
// Lua's numbers do not, so they pass through as text.

// luaAdd: delta, milliseconds.
const luaAdd = `
local r = redis.pcall('INCRBY', KEYS[1], ARGV[1])
if type(r) == 'table' then return r end
if ARGV[2] ~= '0' and redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('GET', KEYS[1])
`

// luaTake: limit, milliseconds. Returns taken, count, milliseconds left.
const luaTake = `
local K, LIMIT = KEYS[1], ARGV[1]
local v = redis.pcall('GET', K)
if type(v) == 'table' then return v end
local function below(a, b)
  local x, y = string.sub(a, 1, 1) == '-', string.sub(b, 1, 1) == '-'
  if x ~= y then return x end
  if x then a, b = string.sub(b, 2), string.sub(a, 2) end
  if #a ~= #b then return #a < #b end
  for i = 1, #a do
    local p, q = string.byte(a, i), string.byte(b, i)
    if p ~= q then return p < q end
  end
  return false
end
v = v or '0'
local taken = 0
if string.find(v, '^-?%d+$') and below(v, LIMIT) then
  local r = redis.pcall('INCRBY', K, 1)
  if type(r) == 'table' then return r end
  taken = 1
  v = redis.call('GET', K)
  if ARGV[2] ~= '0' and redis.call('PTTL', K) < 0 then redis.call('PEXPIRE', K, ARGV[2]) end
end
return {taken, v, redis.call('PTTL', K)}
`

// luaCount returns the counter, empty if there is none, and milliseconds left.
const luaCount = `
local v = redis.pcall('GETRANGE', KEYS[1], 0, 20)
if type(v) == 'table' then return v end
return {v, redis.call('PTTL', KEYS[1])}
`
