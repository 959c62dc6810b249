package tier

import (
	"context"
	"sync"
)

// brackets are the Updates under way on a node, so that Close can end them: what
// they have begun in Redis is to be ended there, not left to its time.
type brackets struct {
	ctx    context.Context // of commits and scans; ends when Close begins
	cancel context.CancelFunc
	open   sync.WaitGroup
}

func newBrackets() *brackets {
	b := &brackets{}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// enter counts an Update; leave follows.
//
// REQUIRES: the caller is inside Node.enter, so that close does not wait yet.
func (b *brackets) enter() { b.open.Add(1) }

func (b *brackets) leave() { b.open.Done() }

// onClose calls f when the node closes, unless the returned function was called.
func (b *brackets) onClose(f func()) (stop func()) {
	drop := context.AfterFunc(b.ctx, f)
	return func() { drop() }
}

// wait waits for the Updates under way, until ctx ends: a commit that ignores its
// context is its caller's.
//
// REQUIRES: no enter comes any more.
func (b *brackets) wait(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		b.open.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
