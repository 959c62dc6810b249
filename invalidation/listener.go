package invalidation

import (
	"context"
	"sync"
	"time"
)

// missingLooks is how often in a row a master must be missing from what the
// cluster says before it is left: each answer is the opinion of one node, which
// may be out of date.
const missingLooks = 3

// Listener is a running report of changes to one [ChangeHandler]. [Tracking.Listen]
// makes it. All methods may be called concurrently.
//
// Each server has goroutines of its own; those of run find the servers. They call
// the handler one at a time, under call.
type Listener struct {
	tracking *Tracking
	handler  ChangeHandler
	cancel   context.CancelFunc
	closing  closing
	wake     chan struct{} // one slot: asks for a look at the cluster

	call sync.Mutex // taken before mu
	out  delivery   // guarded by call

	mu        sync.Mutex // guards what follows, and the state of the servers
	servers   map[string]*trackedServer
	looked    time.Time // when the last look at the masters that succeeded began
	proved    time.Time // the last Heard since the last Gap
	changes   uint64
	flushes   uint64
	links     uint64
	lastError string
}

// run looks for masters until the listener is closed.
func (l *Listener) run(ctx context.Context) {
	var serving sync.WaitGroup
	defer close(l.closing.done)
	defer serving.Wait()
	fixed := l.tracking.targets.fixed()
	// A look is part of the proof, so it is made as often as PINGs are, about.
	ticker := time.NewTicker(max(l.tracking.opt.DeadAfter/4, time.Millisecond))
	defer ticker.Stop()
	for ctx.Err() == nil {
		l.look(ctx, &serving)
		if fixed {
			<-ctx.Done()
			return
		}
		select {
		case <-ctx.Done():
		case <-l.wake:
		case <-ticker.C:
		}
	}
}

// look brings the list of servers up to date.
func (l *Listener) look(ctx context.Context, serving *sync.WaitGroup) {
	begun := time.Now()
	within, cancel := context.WithTimeout(ctx, l.tracking.opt.DeadAfter)
	defer cancel()
	masters, err := l.tracking.targets.masters(within)
	if err != nil {
		l.failed(err)
		return
	}
	var left []*trackedServer
	l.mu.Lock()
	for addr, s := range l.servers {
		if _, ok := masters[addr]; ok {
			s.missing = 0
		} else if s.missing++; s.missing >= missingLooks {
			delete(l.servers, addr)
			left = append(left, s)
		}
	}
	for addr, target := range masters {
		s := l.servers[addr]
		if s == nil {
			s = newTrackedServer(ctx, l, addr)
			l.servers[addr] = s
			serving.Go(s.run)
		}
		s.target = target
	}
	l.looked = begun
	l.mu.Unlock()
	for _, s := range left {
		s.leave()
	}
	l.prove()
}

// failed notes why there is no link, or no list of masters.
func (l *Listener) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastError = err.Error()
}

// prove tells the handler what is proved: as much as the server that is
// furthest behind has told, and of the masters as they were at the last look.
func (l *Listener) prove() {
	l.call.Lock()
	defer l.call.Unlock()
	if at, ok := l.provable(); ok {
		l.out.heard(at)
	}
}

// provable returns until when everything was told, and whether that is news.
func (l *Listener) provable() (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, fixed := l.looked, l.tracking.targets.fixed()
	for _, s := range l.servers {
		if s.heard.IsZero() {
			return time.Time{}, false
		}
		if s.heard.Before(at) || fixed {
			at = s.heard
		}
	}
	if len(l.servers) == 0 || !at.After(l.proved) {
		return time.Time{}, false
	}
	l.proved = at
	return at, true
}

// gapLocked tells the handler of a gap. The caller holds call.
func (l *Listener) gapLocked(reason GapReason) {
	l.mu.Lock()
	l.proved = time.Time{}
	l.mu.Unlock()
	l.out.gap(reason)
}

// changed hands on what a server said. No keys: all of them.
func (l *Listener) changed(keys []string) {
	l.call.Lock()
	defer l.call.Unlock()
	l.mu.Lock()
	l.changes += uint64(len(keys))
	if keys == nil {
		l.flushes++
	}
	l.mu.Unlock()
	l.out.settle()
	told := l.out.call(func() {
		if keys == nil {
			l.handler.Flushed()
			return
		}
		l.handler.Changed(keys)
	})
	if !told {
		l.gapLocked(GapPanic)
	}
}

// refused tells the handler that a server does not track.
func (l *Listener) refused(err error) {
	l.call.Lock()
	defer l.call.Unlock()
	l.out.call(func() { l.handler.Refused(err) })
}

// Stats describes the listener now. It does no I/O.
func (l *Listener) Stats() TrackingStats {
	out := l.out.snapshot()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := TrackingStats{
		Servers: len(l.servers), Changes: l.changes, Flushes: l.flushes, Links: l.links, LastError: l.lastError,
		Gaps: out.Gaps, Panics: out.Panics, LastHeard: out.LastHeard, LastGap: out.LastGap, LastGapAt: out.LastGapAt,
	}
	for _, server := range l.servers {
		if server.confirmed {
			s.Confirmed++
		}
	}
	return s
}

// Renew drops all links and builds them anew, in the background. It is for an
// owner that knows that a server is no longer what it was: a demoted master
// answers every PING. After Close it does nothing.
func (l *Listener) Renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.servers {
		if s.link != nil {
			s.link.cut(GapLink, errRenew)
		}
	}
	signal(l.wake)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Close ends the reports and waits for all goroutines, at most about two seconds
// whatever the network does. No call of the handler begins after it has returned.
// It returns [ErrBusy] if the handler or a dialer was still at work when the time
// was up. Closing again returns the same. The handler must not call it.
func (l *Listener) Close() error {
	return l.closing.close(func() {
		l.out.closed.Store(true)
		l.cancel()
	})
}
