package redistest

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Command is a command with its arguments.
type Command []string

// Name returns the command's name in lower case.
func (c Command) Name() string { return strings.ToLower(c[0]) }

// Named matches commands by name. "eval" does not match EVALSHA: name both.
func Named(names ...string) func(Command) bool {
	return func(c Command) bool { return slices.Contains(names, c.Name()) }
}

// Message is a published message.
type Message struct{ Channel, Payload string }

// ruleKind is what a rule does to the command that it matches.
type ruleKind uint8

const (
	hold ruleKind = iota
	holdReply
	drop
	cut
)

// Rule waits for one command, the next that matches. The functions that match
// are called under a lock: they must not call the proxy.
type Rule struct {
	t       testing.TB
	proxy   *Proxy
	kind    ruleKind
	match   func(Command) bool
	seen    chan struct{} // closed when the command (hold) or its reply (others) is here
	release chan struct{} // closed by Release
	once    sync.Once
}

// Hold stops the next command that matches before the server sees it, and all
// that follows on its connection, until [Rule.Release].
func (p *Proxy) Hold(match func(Command) bool) *Rule { return p.add(hold, match) }

// HoldReply stops the reply of the next command that matches, which has run,
// and all that follows on its connection, until [Rule.Release]. Commands of
// subscribers are not matched.
func (p *Proxy) HoldReply(match func(Command) bool) *Rule { return p.add(holdReply, match) }

// DropReply swallows the reply of the next command that matches: the command
// ran, and its caller waits in vain. Nothing else comes over that connection
// afterwards, because the next reply would be taken for the lost one. Commands
// of subscribers are not matched.
func (p *Proxy) DropReply(match func(Command) bool) *Rule { return p.add(drop, match) }

// CutReply is [Proxy.DropReply], but the connection is closed at once instead of
// silent: the command ran, and its caller sees an EOF.
func (p *Proxy) CutReply(match func(Command) bool) *Rule { return p.add(cut, match) }

func (p *Proxy) add(kind ruleKind, match func(Command) bool) *Rule {
	r := &Rule{
		t: p.t, proxy: p, kind: kind, match: match,
		seen: make(chan struct{}), release: make(chan struct{}),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, r)
	return r
}

// take returns the first rule that matches cmd and removes it. With onlyHold it
// looks at no others.
//
// REQUIRES: p.mu.
func (p *Proxy) take(cmd Command, onlyHold bool) *Rule {
	for i, r := range p.rules {
		if (r.kind == hold || !onlyHold) && r.match(cmd) {
			p.rules = slices.Delete(p.rules, i, i+1)
			return r
		}
	}
	return nil
}

// Seen is closed when a command is held, or when the reply of one has arrived to
// be held or dropped: the command has run then.
func (r *Rule) Seen() <-chan struct{} { return r.seen }

// Wait waits for [Rule.Seen] and fails the test if it does not come.
func (r *Rule) Wait() {
	r.t.Helper()
	timer := time.NewTimer(deadline)
	defer timer.Stop()
	select {
	case <-r.seen:
	case <-timer.C:
		r.t.Fatalf("redistest: no command that matches came within %v", deadline)
	}
}

// Release lets a held command or reply go on. A rule that has not matched yet, of any
// kind, is taken back. More calls do nothing.
func (r *Rule) Release() {
	r.once.Do(func() { close(r.release) })
	r.proxy.mu.Lock()
	defer r.proxy.mu.Unlock()
	r.proxy.rules = slices.DeleteFunc(r.proxy.rules, func(other *Rule) bool { return other == r })
}

// MessageDrop drops published messages on their way to subscribers.
type MessageDrop struct {
	proxy *Proxy
	left  int // guards: proxy.mu
	match func(Message) bool
	count atomic.Int64
}

// DropMessages drops the next n published messages that match, each delivery
// to a subscriber counting as one. The connections stay as they are, so nobody
// notices.
func (p *Proxy) DropMessages(n int, match func(Message) bool) *MessageDrop {
	d := &MessageDrop{proxy: p, left: n, match: match}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drops = append(p.drops, d)
	return d
}

// Dropped returns how many were dropped so far.
func (d *MessageDrop) Dropped() int { return int(d.count.Load()) }

// Stop lets the rest pass.
func (d *MessageDrop) Stop() {
	d.proxy.mu.Lock()
	defer d.proxy.mu.Unlock()
	d.left = 0
}

// dropped counts m against the first drop that wants it.
//
// REQUIRES: p.mu.
func (p *Proxy) dropped(m Message) bool {
	for _, d := range p.drops {
		if d.left > 0 && d.match(m) {
			d.left--
			d.count.Add(1)
			return true
		}
	}
	return false
}
