package tier

import "sync"

// scratch is memory for an encoded value, on its way into a record. Without it each
// encoding would grow a slice of its own, several times.
//
// A Codec may return memory that is its own (although it should not). So what it
// returned is never kept: a scratch that was too small is replaced by a larger one.
type scratch struct {
	bytes []byte // empty
	need  int    // length of the longest encoding
}

// want notes that so many bytes were needed.
func (s *scratch) want(n int) { s.need = max(s.need, n) }

// scratchPool keeps scratches between encodings.
type scratchPool struct{ pool sync.Pool }

// scratchBytes is the size of a scratch at first; one value of more than scratchMost
// does not make one hold that much for good.
const scratchBytes, scratchMost = 512, 64 << 10

func (p *scratchPool) take() *scratch {
	if s, ok := p.pool.Get().(*scratch); ok {
		return s
	}
	return &scratch{bytes: make([]byte, 0, scratchBytes)}
}

// give returns a scratch. Nobody may use it, nor what was encoded into it, any more.
func (p *scratchPool) give(s *scratch) {
	if s.need > cap(s.bytes) && s.need <= scratchMost {
		s.bytes = make([]byte, 0, s.need+s.need/4)
	}
	s.need = 0
	p.pool.Put(s)
}
