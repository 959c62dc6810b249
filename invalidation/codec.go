package invalidation

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"
)

// The format, in order. Integers of fixed width are big-endian; uvarints are
// those of encoding/binary in their shortest form, so that every message has
// one encoding.
//
//	2     magic
//	1     format
//	1     kind
//	16    node
//	8     seq
//	1+n   cache: length, bytes
//	      keys: uvarint count, then each as uvarint length and bytes
//	      beats and byes only: uvarints overflow (0, 1), number, interval, age and
//	      quiet (ns), then excused and open: count and differences, the first to 0
//	8     version
//
// The version is last and of fixed width because scripts know it only inside
// Redis and put it over the last 8 bytes. For the same reason there is no
// checksum. Any change, a new kind included, raises the format.
const (
	magic0, magic1 = 0xC5, 'i'
	format         = 1

	headBytes    = 2 + 1 + 1 + 16 + 8
	versionBytes = 8
)

// Append appends the encoded message to dst. The last 8 bytes are Version,
// big-endian, whatever the kind.
//
// An error matches [ErrMessage] and names the field that is out of bounds or
// out of place for the kind; dst is then returned as it was. m is not retained.
func (m *Message) Append(dst []byte) ([]byte, error) {
	if err := m.check(); err != nil {
		return dst, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	start := len(dst)
	b := append(slices.Grow(dst, m.size()), magic0, magic1, format, byte(m.Kind))
	b = append(b, m.Node[:]...)
	b = binary.BigEndian.AppendUint64(b, m.Seq)
	b = append(b, byte(len(m.Cache)))
	b = append(b, m.Cache...)
	b = binary.AppendUvarint(b, uint64(len(m.Keys)))
	for _, key := range m.Keys {
		b = binary.AppendUvarint(b, uint64(len(key)))
		b = append(b, key...)
	}
	if m.Kind == KindBeat || m.Kind == KindBye {
		b = m.Beat.append(b)
	}
	b = binary.BigEndian.AppendUint64(b, m.Version)
	if n := len(b) - start; n > MaxMessageBytes {
		return dst, fmt.Errorf("%w: %d bytes, at most %d", ErrMessage, n, MaxMessageBytes)
	}
	return b, nil
}

// size is about what Append appends, and not less but for lists of a beat.
func (m *Message) size() int {
	n := headBytes + 1 + len(m.Cache) + binary.MaxVarintLen32 + versionBytes
	for _, key := range m.Keys {
		n += binary.MaxVarintLen16 + len(key)
	}
	if m.Kind == KindBeat || m.Kind == KindBye {
		n += 1 + 4*binary.MaxVarintLen64 + 2
	}
	return n
}

func (b *Beat) append(dst []byte) []byte {
	overflow := uint64(0)
	if b.Overflow {
		overflow = 1
	}
	dst = binary.AppendUvarint(dst, overflow)
	dst = binary.AppendUvarint(dst, b.Number)
	for _, d := range []time.Duration{b.Interval, b.Age, b.Quiet} {
		dst = binary.AppendUvarint(dst, uint64(d))
	}
	for _, list := range [][]uint64{b.Excused, b.Open} {
		dst = binary.AppendUvarint(dst, uint64(len(list)))
		last := uint64(0)
		for _, seq := range list {
			dst = binary.AppendUvarint(dst, seq-last)
			last = seq
		}
	}
	return dst
}

// check holds both directions to the same rules: what Append lets out Parse
// takes, or an invalidation would be ignored as garbage.
func (m *Message) check() error {
	beat := m.Kind == KindBeat || m.Kind == KindBye
	named := m.Kind == KindKeys || m.Kind == KindClear
	keyed := m.Kind == KindKeys || m.Kind == KindPrefix || m.Kind == KindTags
	switch {
	case m.Kind < KindKeys || m.Kind > KindBye:
		return fmt.Errorf("Kind %d is none", m.Kind)
	case !beat && m.Seq == 0:
		return fmt.Errorf("Seq is 0 in %v", m.Kind)
	case named && m.Cache == "":
		return fmt.Errorf("Cache is empty in %v", m.Kind)
	case !named && m.Kind != KindPrefix && m.Cache != "":
		return fmt.Errorf("Cache is set in %v", m.Kind)
	case len(m.Cache) > MaxCacheBytes:
		return fmt.Errorf("Cache has %d bytes, at most %d", len(m.Cache), MaxCacheBytes)
	case keyed && len(m.Keys) == 0:
		return fmt.Errorf("Keys is empty in %v", m.Kind)
	case !keyed && len(m.Keys) != 0:
		return fmt.Errorf("Keys is set in %v", m.Kind)
	case len(m.Keys) > MaxKeys:
		return fmt.Errorf("Keys has %d entries, at most %d", len(m.Keys), MaxKeys)
	}
	for i, key := range m.Keys {
		if key == "" && (m.Kind != KindPrefix || m.Cache == "") {
			return fmt.Errorf("Keys[%d] is empty in %v", i, m.Kind)
		}
		if len(key) > MaxKeyBytes {
			return fmt.Errorf("Keys[%d] has %d bytes, at most %d", i, len(key), MaxKeyBytes)
		}
	}
	if beat {
		return m.Beat.check(m.Kind, m.Seq)
	}
	if !m.Beat.zero() {
		return fmt.Errorf("Beat is set in %v", m.Kind)
	}
	return nil
}

func (b *Beat) check(kind Kind, seq uint64) error {
	switch {
	case b.Interval < 0 || b.Interval > MaxInterval || b.Interval == 0 && kind == KindBeat:
		return fmt.Errorf("Beat.Interval is %v, at most %v", b.Interval, MaxInterval)
	case b.Age < 0:
		return fmt.Errorf("Beat.Age is %v", b.Age)
	case b.Quiet < 0:
		return fmt.Errorf("Beat.Quiet is %v", b.Quiet)
	}
	if err := checkList(b.Excused, seq); err != nil {
		return fmt.Errorf("Beat.Excused %w", err)
	}
	if err := checkList(b.Open, seq); err != nil {
		return fmt.Errorf("Beat.Open %w", err)
	}
	return nil
}

func checkList(list []uint64, seq uint64) error {
	if len(list) > MaxListed {
		return fmt.Errorf("has %d entries, at most %d", len(list), MaxListed)
	}
	last := uint64(0)
	for _, s := range list {
		if s <= last || s > seq {
			return fmt.Errorf("does not ascend between 1 and Seq at %d", s)
		}
		last = s
	}
	return nil
}

func (b *Beat) zero() bool {
	return !b.Overflow && b.Number == 0 && b.Interval == 0 && b.Age == 0 && b.Quiet == 0 &&
		len(b.Excused) == 0 && len(b.Open) == 0
}

// Parse decodes a message. The result shares no memory with b.
//
// The error is [ErrNewer] if b is a message of a newer format, and matches
// [ErrGarbage] if b is anything else that [Message.Append] does not produce. Memory
// is bounded by a small multiple of the smaller of len(b) and
// [MaxMessageBytes].
func Parse(b []byte) (Message, error) {
	if len(b) >= 3 && b[0] == magic0 && b[1] == magic1 && b[2] > format {
		return Message{}, ErrNewer
	}
	if len(b) > MaxMessageBytes {
		return Message{}, garbage("%d bytes", len(b))
	}
	if len(b) < headBytes+versionBytes || b[0] != magic0 || b[1] != magic1 || b[2] != format {
		return Message{}, garbage("no header")
	}
	m := Message{Kind: Kind(b[3])}
	copy(m.Node[:], b[4:20])
	m.Seq = binary.BigEndian.Uint64(b[20:28])
	body, version := b[headBytes:len(b)-versionBytes], b[len(b)-versionBytes:]
	m.Version = binary.BigEndian.Uint64(version)

	r := reader{rest: body}
	m.Cache = r.cache()
	m.Keys = r.keys()
	if m.Kind == KindBeat || m.Kind == KindBye {
		m.Beat = r.beat()
	}
	if r.bad || len(r.rest) != 0 {
		return Message{}, garbage("malformed %v", m.Kind)
	}
	if err := m.check(); err != nil {
		return Message{}, garbage("%v", err)
	}
	return m, nil
}

func garbage(text string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrGarbage, fmt.Sprintf(text, args...))
}

// reader takes a body apart. After the first fault bad is set and everything
// reads as empty.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) fail() { r.bad, r.rest = true, nil }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || n > 1 && r.rest[n-1] == 0 { // none, too long, or not the shortest form
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// count reads a number of entries of at least one byte each, so that no claim
// allocates more than is there.
func (r *reader) count(limit int) int {
	n := r.uvarint()
	if n > uint64(limit) || n > uint64(len(r.rest)) {
		r.fail()
		return 0
	}
	return int(n)
}

// text copies, so that a short string that is kept does not keep the message.
func (r *reader) text(n uint64) string {
	if n > uint64(len(r.rest)) {
		r.fail()
		return ""
	}
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}

func (r *reader) cache() string {
	if len(r.rest) == 0 {
		r.fail()
		return ""
	}
	n := r.rest[0]
	r.rest = r.rest[1:]
	return r.text(uint64(n))
}

func (r *reader) keys() []string {
	n := r.count(MaxKeys)
	if n == 0 {
		return nil
	}
	keys := make([]string, 0, n)
	for range n {
		keys = append(keys, r.text(r.uvarint()))
		if r.bad {
			return nil
		}
	}
	return keys
}

func (r *reader) beat() Beat {
	var b Beat
	switch r.uvarint() {
	case 0:
	case 1:
		b.Overflow = true
	default:
		r.fail()
	}
	b.Number = r.uvarint()
	b.Interval = r.duration()
	b.Age = r.duration()
	b.Quiet = r.duration()
	b.Excused = r.list()
	b.Open = r.list()
	return b
}

func (r *reader) duration() time.Duration {
	v := r.uvarint()
	if v > math.MaxInt64 {
		r.fail()
		return 0
	}
	return time.Duration(v)
}

func (r *reader) list() []uint64 {
	n := r.count(MaxListed)
	if n == 0 {
		return nil
	}
	list := make([]uint64, 0, n)
	last := uint64(0)
	for range n {
		last += r.uvarint() // an overflow does not ascend: check refuses it
		list = append(list, last)
	}
	if r.bad {
		return nil
	}
	return list
}
