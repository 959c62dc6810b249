package deadline

import (
	"context"
	"sync"
	"time"
)

// shortest is how many steps a shared context lasts at least. Of a shorter one the
// step would be too large a part.
const shortest = 4

// Group makes contexts that share timers. All methods may be called concurrently.
type Group struct {
	step time.Duration
	base time.Time

	mu    sync.Mutex              // guards what follows
	slots map[int64]chan struct{} // closed at base plus so many steps
}

// NewGroup returns a group whose contexts end up to step early. It must be more
// than zero.
func NewGroup(step time.Duration) *Group {
	return &Group{step: step, base: time.Now(), slots: make(map[int64]chan struct{})}
}

// With returns a context that ends d after now, which the caller has just read, or
// with parent if that is earlier. The function returned is to be called when the
// work is done, and may do nothing: what was derived from the context is to be
// canceled by itself.
func (g *Group) With(parent context.Context, now time.Time, d time.Duration) (context.Context, context.CancelFunc) {
	end := now.Add(d)
	if earlier, ok := parent.Deadline(); ok && earlier.Before(end) {
		end = earlier
	}
	if outer, ok := parent.(*shared); ok {
		parent = outer.Context
	}
	if parent.Done() != nil || end.Sub(now) < shortest*g.step {
		return context.WithDeadline(parent, end)
	}
	return &shared{parent, end, g.slot(end)}, nothing
}

func nothing() {}

// slot returns a channel that is closed at end, or less than a step before.
func (g *Group) slot(end time.Time) <-chan struct{} {
	n := int64(end.Sub(g.base) / g.step)
	g.mu.Lock()
	defer g.mu.Unlock()
	done := g.slots[n]
	if done == nil {
		done = make(chan struct{})
		g.slots[n] = done
		time.AfterFunc(time.Until(g.base.Add(time.Duration(n)*g.step)), func() {
			g.mu.Lock()
			delete(g.slots, n)
			g.mu.Unlock()
			close(done)
		})
	}
	return done
}

// shared is a context whose Done is that of others, too.
type shared struct {
	context.Context // that is never done
	end             time.Time
	done            <-chan struct{}
}

func (c *shared) Deadline() (time.Time, bool) { return c.end, true }

func (c *shared) Done() <-chan struct{} { return c.done }

func (c *shared) Err() error {
	select {
	case <-c.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// Shared reports whether ctx is one of With that nobody can cancel.
func Shared(ctx context.Context) bool {
	_, ok := ctx.(*shared)
	return ok
}
