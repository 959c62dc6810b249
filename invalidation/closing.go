package invalidation

import (
	"sync"
	"time"
)

// closeWait is how long Close waits for the handler and the network.
const closeWait = 2 * time.Second

// closing ends something once, and waits for it, but not for ever.
type closing struct {
	done chan struct{} // closed when it has ended
	once sync.Once
	err  error
}

// close calls stop and waits. It returns [ErrBusy] if that took too long, and
// the same when it is called again.
func (c *closing) close(stop func()) error {
	c.once.Do(func() {
		stop()
		timer := time.NewTimer(closeWait)
		defer timer.Stop()
		select {
		case <-c.done:
		case <-timer.C:
			c.err = ErrBusy
		}
	})
	return c.err
}
