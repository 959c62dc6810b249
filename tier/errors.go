package tier

import (
	"errors"
	"fmt"

	"github.com/tandemcache/tandem/keys"
)

// Errors, matched with errors.Is. Text around them names the cache and key.
var (
	// ErrNotFound says that there is no value. A loader returns it to state
	// that the source has none either: a fact, which is remembered for
	// Options.NegativeTTL, and no failure.
	ErrNotFound = errors.New("tier: not found")

	// ErrUnavailable says that Redis could not be asked, or did not confirm. A
	// change of a [Cache] that returns it was made on this node and is owed to
	// Redis: do not repeat it. A [Counter] owes nothing.
	ErrUnavailable = errors.New("tier: redis unavailable")

	// ErrClosed says that the Node is closed.
	ErrClosed = errors.New("tier: node closed")

	// ErrTooLarge says that an encoded value exceeds Options.MaxValueBytes, or
	// a limit of its codec's own (codec.ErrTooLarge). Nothing was stored, and what
	// was stored before was deleted.
	ErrTooLarge = errors.New("tier: value too large")

	// ErrKey says that a key, prefix or name breaks the rules for keys.
	ErrKey = errors.New("tier: invalid key")
)

// checkKey returns an error that matches ErrKey unless key may be used in a
// cache: valid UTF-8 without control characters, 1 to 1,024 bytes.
func checkKey(cache, key string) error {
	if err := keys.Check(key); err != nil {
		return fmt.Errorf("%w: cache %q: %w", ErrKey, cache, err)
	}
	return nil
}
