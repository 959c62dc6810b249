package tier

import "sync"

// broadcast wakes all who wait for the next signal. The zero value is ready.
type broadcast struct {
	mu   sync.Mutex
	next chan struct{} // closed by the next signal; guarded by mu
}

// wait returns a channel that the next signal closes.
func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

func (b *broadcast) signal() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}
