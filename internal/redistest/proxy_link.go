package redistest

import (
	"bufio"
	"net"
	"strings"
	"sync"
	"time"
)

// link is one connection through a proxy.
//
// Four goroutines serve it: in each direction one reads and cuts into frames,
// and one writes, because a delayed frame must not keep the next from being
// read at the time when it came.
type link struct {
	proxy          *Proxy
	client, server net.Conn
	done           chan struct{} // closed with the link
	gone           chan struct{} // closed when the server's side is: half-open
	once, half     sync.Once

	class   Class   // guards: proxy.mu; 0 until it is known
	pending []*Rule // guards: proxy.mu; of each command whose reply is due, in order; nil: none
	silent  bool    // guards: proxy.mu; a reply was dropped, nothing may follow it
}

// item is a frame on its way.
type item struct {
	raw []byte
	at  time.Time
}

// queueLen is how many frames may be on their way in a direction before reading
// pauses: enough for any pipeline of a test.
const queueLen = 1 << 14

// connect makes a link of a client's new connection and serves it to its end.
func (p *Proxy) connect(client net.Conn) {
	p.mu.Lock()
	addr := p.server.Addr()
	p.mu.Unlock()
	server, err := net.Dial("tcp4", addr)
	if err != nil {
		// A refusal cannot be passed on any more: the client sees an EOF.
		_ = client.Close()
		return
	}
	l := &link{
		proxy: p, client: client, server: server,
		done: make(chan struct{}), gone: make(chan struct{}),
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		l.close()
		return
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()
	defer func() {
		l.close()
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
	}()
	var sides sync.WaitGroup
	sides.Go(func() { l.pump(ToServer, client, server, l.command) })
	sides.Go(func() { l.pump(ToClient, server, client, l.reply) })
	sides.Wait()
}

// close ends both sides.
func (l *link) close() {
	l.once.Do(func() {
		close(l.done)
		_ = l.client.Close()
		_ = l.server.Close()
	})
}

// halfOpen ends the server's side only.
func (l *link) halfOpen() {
	l.half.Do(func() {
		close(l.gone)
		_ = l.server.Close()
	})
}

// isHalfOpen reports whether only the client's side is left.
func (l *link) isHalfOpen() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

// pump passes frames from src to dst. handle sees each and says whether it goes
// on. The end of one direction ends the link, unless it is half-open.
func (l *link) pump(dir Direction, src, dst net.Conn, handle func(frame) bool) {
	queue := make(chan item, queueLen)
	var writer sync.WaitGroup
	writer.Go(func() { l.write(dir, dst, queue) })
	r := bufio.NewReader(src)
	for {
		f, err := readFrame(r)
		if err != nil {
			break
		}
		if !handle(f) {
			continue
		}
		select {
		case queue <- item{raw: f.raw, at: time.Now()}:
		case <-l.done:
		}
	}
	close(queue)
	writer.Wait()
	if dir == ToServer || !l.isHalfOpen() {
		l.close()
	}
}

// write writes what is in queue when its time comes.
func (l *link) write(dir Direction, dst net.Conn, queue <-chan item) {
	for it := range queue {
		if !l.due(dir, it.at) || !l.open(dir) {
			continue // the link is closed: drain
		}
		// An error shows on the reading side as well, which ends the link; a
		// half-open link swallows it.
		_, _ = dst.Write(it.raw)
	}
}

// due waits for the delay of a frame; false: the link was closed.
func (l *link) due(dir Direction, at time.Time) bool {
	if dir == ToServer {
		return true
	}
	l.proxy.mu.Lock()
	wait := time.Until(at.Add(l.proxy.delay[l.class]))
	l.proxy.mu.Unlock()
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.done:
		return false
	}
}

// open waits until the direction is not frozen; false: the link was closed.
func (l *link) open(dir Direction) bool {
	for {
		l.proxy.mu.Lock()
		frozen := l.proxy.frozen[dir].covers(l.class)
		change := l.proxy.change
		l.proxy.mu.Unlock()
		if !frozen {
			return true
		}
		select {
		case <-change:
		case <-l.done:
			return false
		}
	}
}

// command sees a frame from the client. It blocks while a rule holds it, and
// with it all that follows on this connection.
func (l *link) command(f frame) bool {
	if len(f.items) == 0 {
		return true
	}
	cmd := Command(f.items)
	l.proxy.mu.Lock()
	l.classify(cmd)
	// What a subscriber gets are messages, not a reply a command: only the
	// command itself can be held there.
	rule := l.proxy.take(cmd, l.class == PubSub)
	if l.class != PubSub {
		l.pending = append(l.pending, rule)
	}
	l.proxy.mu.Unlock()
	if rule == nil || rule.kind != hold {
		return true
	}
	close(rule.seen)
	select {
	case <-rule.release:
		return true
	case <-l.done:
		return false
	}
}

// classify learns the class from a command.
//
// REQUIRES: proxy.mu.
func (l *link) classify(cmd Command) {
	switch cmd.Name() {
	case "hello", "auth", "select", "client":
	case "subscribe", "psubscribe", "ssubscribe":
		l.class = PubSub
	default:
		if l.class == 0 {
			l.class = Commands
		}
	}
}

// reply sees a frame from the server. It blocks while a rule holds it, and with
// it all that follows on this connection.
func (l *link) reply(f frame) bool {
	pass, rule := l.judge(f)
	if rule == nil {
		return pass
	}
	close(rule.seen)
	select {
	case <-rule.release:
		return true
	case <-l.done:
		return false
	}
}

// judge says whether a reply passes, or by which rule it is held.
func (l *link) judge(f frame) (pass bool, held *Rule) {
	p := l.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.silent {
		return false, nil
	}
	if m, ok := messageOf(f); ok && (l.class == PubSub || f.kind == '>') {
		return !p.dropped(m), nil
	}
	if f.kind == '>' || len(l.pending) == 0 {
		return true, nil
	}
	rule := l.pending[0]
	l.pending = l.pending[1:]
	switch {
	case rule == nil || rule.kind == hold:
		return true, nil
	case rule.kind == holdReply:
		return true, rule
	}
	// Later replies would be taken for this one, so none may pass.
	l.silent = true
	close(rule.seen)
	if rule.kind == cut {
		l.close()
	}
	return false, nil
}

// messageOf reads a published message out of a frame.
func messageOf(f frame) (Message, bool) {
	if (f.kind != '*' && f.kind != '>') || len(f.items) < 3 {
		return Message{}, false
	}
	switch strings.ToLower(f.items[0]) {
	case "message", "smessage":
		return Message{Channel: f.items[1], Payload: f.items[2]}, true
	case "pmessage":
		if len(f.items) > 3 {
			return Message{Channel: f.items[2], Payload: f.items[3]}, true
		}
	}
	return Message{}, false
}
