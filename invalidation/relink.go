package invalidation

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// relink calls serve, which makes a link and returns for how long it stood, again
// and again until ctx ends. The pauses between grow while links fail; pausing is
// told each. retry ends a pause.
func relink(ctx context.Context, opt *RedisOptions, retry <-chan struct{}, serve func() time.Duration, pausing func(time.Duration)) {
	wait := &backoff.ExponentialBackOff{
		InitialInterval:     opt.MinBackoff,
		RandomizationFactor: 0.5,
		Multiplier:          1.5,
		MaxInterval:         opt.MaxBackoff,
	}
	wait.Reset()
	for ctx.Err() == nil {
		stood := serve()
		if ctx.Err() != nil {
			return
		}
		if stood > opt.MaxBackoff {
			wait.Reset()
		}
		pause := wait.NextBackOff()
		pausing(pause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-retry:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}
