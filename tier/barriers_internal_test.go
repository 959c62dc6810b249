package tier

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// asking is who waits at barriers in a bubble, with a sender that only counts.
type asking struct {
	t *testing.T
	barriers
	wakes int
}

func newAsking(t *testing.T) *asking {
	a := &asking{t: t}
	a.wake = func() { a.wakes++ }
	return a
}

// ask returns when the caller waits.
func (a *asking) ask(ctx context.Context) <-chan bool {
	got := make(chan bool, 1)
	go func() { got <- a.wait(ctx) }()
	synctest.Wait()
	return got
}

func (a *asking) waits(c <-chan bool, why string) {
	a.t.Helper()
	synctest.Wait()
	assert.Empty(a.t, c, why)
}

func (a *asking) ends(c <-chan bool, proved bool, why string) {
	a.t.Helper()
	synctest.Wait()
	select {
	case got := <-c:
		assert.Equal(a.t, proved, got, why)
	default:
		assert.Fail(a.t, "it waits", why)
	}
}

// Those who ask share a beat that is sent later, and one is under way at a time.
func TestBarriers_shareBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, ctx := newAsking(t), t.Context()
		first, second := a.ask(ctx), a.ask(ctx)
		assert.Equal(t, 1, a.wakes, "one beat for both")
		a.sending(1, 10)
		late, later := a.ask(ctx), a.ask(ctx)
		assert.Equal(t, 1, a.wakes, "none while one is under way")
		a.sending(2, 20) // in turn
		a.heard(1, 11)
		a.waits(first, "another's beat")
		a.heard(1, 10)
		a.ends(first, true, "its beat")
		a.ends(second, true, "its beat")
		a.waits(late, "it asked after that beat was sent")
		assert.Equal(t, 2, a.wakes)
		a.sending(3, 30)
		a.heard(3, 30)
		a.ends(late, true, "its beat")
		a.ends(later, true, "its beat")
		assert.Equal(t, 2, a.wakes, "nobody asks")
	})
}

func TestBarriers_beatThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, ctx := newAsking(t), t.Context()
		first, second := a.ask(ctx), a.ask(ctx)
		a.sending(1, 10)
		late := a.ask(ctx)
		a.failed(1)
		a.ends(first, false, "its beat failed")
		a.ends(second, false, "its beat failed")
		a.waits(late, "not its beat")
		assert.Equal(t, 2, a.wakes)
		a.sending(2, 20)
		a.failed(1)
		a.heard(1, 10)
		a.waits(late, "not its beat")
		a.heard(2, 20)
		a.ends(late, true, "its beat")
	})
}

// A beat that does not come back holds each up for as long as it likes, and the
// next beat for as long as the link may be silent.
func TestBarriers_beatThatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsking(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		impatient, patient := a.ask(ctx), a.ask(t.Context())
		a.sending(1, 10)
		late := a.ask(t.Context())
		time.Sleep(time.Second)
		a.ends(impatient, false, "its context ended")
		a.lost(time.Second + 1)
		a.waits(patient, "its beat may still come")
		assert.Equal(t, 1, a.wakes)
		a.lost(time.Second)
		a.ends(patient, false, "its beat was given up")
		assert.Equal(t, 2, a.wakes)
		a.sending(2, 20)
		a.heard(1, 10)
		a.waits(late, "not its beat")
		a.heard(2, 20)
		a.ends(late, true, "its beat")
	})
}
