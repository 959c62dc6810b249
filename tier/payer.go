package tier

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tandemcache/tandem/internal/journal"
)

const (
	// payEvery is the pause between two passes over what could not be paid. It
	// doubles up to payMost, or payRatio times what the last pass took, payWide at
	// most, for debts that take a scan of Redis: that a server is back is told by
	// the store, and ends the pause.
	payEvery = 250 * time.Millisecond
	payMost  = time.Second
	payWide  = 8 * time.Second
	payRatio = 20
	// payBatch is how many debts are on their way before the next are looked at,
	// and payWorkers how many at once.
	payBatch   = 512
	payWorkers = 16
	// payFailures is how many calls to a server fail before a pass leaves the rest
	// of its debts alone.
	payFailures = 8
)

// payer replays debts until Redis confirms them. A replay deletes, whatever
// the failed change was: the source of truth is elsewhere, so a delete is right
// in any order.
type payer struct {
	node  *Node
	lanes []*lane
	paid  chan struct{} // one slot: a pass has ended, for drain
}

// lane pays the debts of some scopes. Deletions of a prefix, which take as long as
// there are keys in Redis, do not hold up those of single keys.
type lane struct {
	payer   *payer
	scopes  []journal.Scope
	workers int
	most    time.Duration // the longest pause

	owed  chan struct{} // one slot: there is something new
	hurry chan struct{} // one slot: look now, whatever failed before
}

func newPayer(n *Node) *payer {
	p := &payer{node: n, paid: make(chan struct{}, 1)}
	add := func(workers int, most time.Duration, scopes ...journal.Scope) {
		p.lanes = append(p.lanes, &lane{
			payer: p, scopes: scopes, workers: workers, most: most,
			owed: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
		})
	}
	add(payWorkers, payMost, journal.Clear, journal.Tag, journal.Key)
	add(1, payWide, journal.All, journal.Prefix)
	return p
}

// wake makes the payer look at the debts now.
func (p *payer) wake() {
	for _, l := range p.lanes {
		signal(l.hurry)
	}
}

// incurred tells the payer that something is owed. While it waits because Redis
// does not answer, it goes on waiting: the next of a thousand changes that fail
// is no reason to go through all again.
func (p *payer) incurred() {
	for _, l := range p.lanes {
		signal(l.owed)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run pays debts until the node is closed.
func (p *payer) run() {
	var g sync.WaitGroup
	for _, l := range p.lanes {
		g.Go(l.run)
	}
	g.Wait()
}

// run pays the debts of the lane. Without debts it only waits.
func (l *lane) run() {
	n := l.payer.node
	pause := payEvery
	for {
		var again <-chan time.Time
		owed := l.owed
		if n.debts.Len(l.scopes...) > 0 {
			again, owed = time.After(jitter(pause)), nil
		}
		select {
		case <-n.ctx.Done():
			return
		case <-owed:
		case <-l.hurry:
			pause = payEvery
		case <-again:
		}
		begun := time.Now()
		if l.pass() {
			pause = payEvery
		} else {
			pause = min(2*pause, l.rest(time.Since(begun)))
		}
		signal(l.payer.paid)
	}
}

// rest is the longest pause after a pass that paid nothing and took so long. One
// that was refused at once, by a server that takes no writes, need not wait as
// long as one that scanned Redis in vain.
func (l *lane) rest(took time.Duration) time.Duration {
	return min(max(payRatio*took, payMost), l.most)
}

// pass tries every debt of the lane once and reports whether some were paid. One
// server's being away costs the debts of the others nothing.
func (l *lane) pass() (progress bool) {
	n := l.payer.node
	var t tally
	for left := n.debts.Len(l.scopes...); left > 0 && n.ctx.Err() == nil; {
		batch := n.debts.Batch(min(payBatch, left), l.scopes...)
		left -= max(len(batch), 1)
		var g errgroup.Group
		g.SetLimit(l.workers)
		for _, d := range batch {
			key := n.debtKey(&d)
			owner := ""
			if key != "" {
				owner = n.store.Owner(key)
			}
			if t.failed(owner) >= payFailures {
				continue
			}
			if key != "" && !n.store.Available(key) {
				t.fail(owner, payFailures)
				continue
			}
			g.Go(func() error {
				switch paid, err := l.payer.pay(d); {
				case err != nil:
					t.fail(owner, 1)
				case paid:
					t.pay()
				}
				return nil
			})
		}
		_ = g.Wait()
	}
	return t.paid > 0
}

// tally is what a pass has come to.
type tally struct {
	mu       sync.Mutex
	failures map[string]int // by server; guarded by mu
	paid     int            // guarded by mu; read at the end without
}

func (t *tally) failed(owner string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failures[owner]
}

func (t *tally) fail(owner string, by int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failures == nil {
		t.failures = make(map[string]int)
	}
	t.failures[owner] += by
}

func (t *tally) pay() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.paid++
}

// drain waits until nothing is owed.
func (p *payer) drain(ctx context.Context) error {
	ticker := time.NewTicker(payEvery)
	defer ticker.Stop()
	p.wake()
	for {
		left := p.node.debts.Len()
		if left == 0 {
			return nil
		}
		select {
		case <-p.paid:
		case <-ticker.C:
			p.wake()
		case <-p.node.ctx.Done():
			return fmt.Errorf("tier: %d invalidations still owed: %w", left, ErrClosed)
		case <-ctx.Done():
			return fmt.Errorf("tier: %d invalidations still owed: %w", left, context.Cause(ctx))
		}
	}
}
