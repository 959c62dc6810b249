package tier

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/tandemcache/tandem/codec"
	"github.com/tandemcache/tandem/internal/l2"
)

// Defaults and limits of Options.
const (
	defaultTTL           = TTLMedium
	defaultJitter        = 0.05
	defaultNegativeTTL   = 30 * time.Second
	defaultLoadTimeout   = 10 * time.Second
	defaultLocalBytes    = 64 << 20
	defaultMaxValueBytes = 1 << 20

	minTTL           = time.Millisecond
	maxTTL           = 100 * 365 * 24 * time.Hour // keeps sums of times within int64 microseconds
	maxMaxValueBytes = 256 << 20                  // Redis itself ends at 512 MiB
	maxName          = 64
)

// Options describes a [Cache]. The zero value is ready to use. Options are
// copied by New and never changed.
type Options[T any] struct {
	// TTL is how long a value is fresh when a call gives the ttl 0. Default
	// TTLMedium; NoExpiry is allowed.
	TTL time.Duration

	// Jitter shortens each stored TTL by a random part of up to this fraction,
	// so that what was stored together does not end together. Default 0.05;
	// negative turns it off; at most 1.
	Jitter float64

	// NegativeTTL is how long a loader's ErrNotFound is remembered. Default
	// 30 s; negative turns it off.
	NegativeTTL time.Duration

	// StaleFor is how long past its TTL a value may still serve in place of one
	// that cannot be had: when a load fails or is slower than SoftTimeout. Redis
	// keeps values for their TTL and StaleFor. Get never returns one, Lookup
	// marks it. What was deleted or invalidated never serves. Default 0: values
	// end with their TTL.
	StaleFor time.Duration

	// RefreshAt is the fraction of a TTL past which a read by GetOrSet or Fetch
	// starts a load in the background, one in the fleet, while the value goes on
	// being served: 0.8 is past 80 %. Default 0: off; below 1.
	RefreshAt float64

	// SoftTimeout is how long GetOrSet, GetOrSetMany and Fetch wait for a load when
	// there is a value past its TTL to answer with, see StaleFor. The load goes on in
	// the background. Default 0: until it ends or fails; negative: not at all
	// (stale-while-revalidate).
	SoftTimeout time.Duration

	// LoadTimeout is the longest time that one load may take, from when the loader
	// is called. Its context ends then, its callers get an error, and the key is
	// free for another load. The load of another process is waited for as long;
	// then the key is loaded here as well, and the result not stored. Default 10 s.
	LoadTimeout time.Duration

	// Local describes the tier in this process' memory.
	Local Local

	// Codec turns values into bytes. Default codec.Msgpack.
	Codec codec.Codec[T]

	// Version is part of the schema stamp of each record, beside the codec's
	// name and the shape of T. Change it when the meaning of values changes but
	// their shape does not: records of another stamp are misses.
	Version string

	// Cost says how many bytes a value takes in memory, for Local.MaxBytes.
	// Default: an estimate from the encoded size.
	Cost func(T) int64

	// Clone makes a deep copy. With it, what callers pass in and get out is
	// theirs to change; without it, values are shared and must not be changed.
	Clone func(T) T

	// Tags names the tags of a value, beside those that a call gives. It is
	// applied to every value that is stored, loaded ones included, and must
	// return the same for the same value. See [Node.InvalidateTags]. An absence that
	// is remembered has no value, and so only the tags of Fill.Tags.
	Tags func(key string, v T) []string

	// MaxValueBytes limits the encoded size of a value. Default 1 MiB, at most
	// 256 MiB.
	MaxValueBytes int

	// Hold refuses fills for this long after a Delete, for loaders that read
	// database replicas which lag by at most that. Default 0: no hold; at most
	// 10 minutes.
	Hold time.Duration
}

// Local describes a cache's tier in this process' memory.
type Local struct {
	// MaxBytes bounds the memory of the cached values and of the tables that find
	// them, which take about a tenth. Default 64 MiB. See Options.Cost for how
	// values are counted.
	MaxBytes int64
	// TTL is the longest time that a value is served from memory without asking
	// Redis again. Default 0: as long as the record lives.
	TTL time.Duration
	// Disabled turns the local values off. The coherence promises stay.
	Disabled bool
}

func (o Options[T]) resolve(name string) (Options[T], error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if err := checkName(name); err != nil {
		faults = append(faults, err)
	}
	if err := checkTTL(o.TTL); err != nil || o.TTL < 0 && o.TTL != NoExpiry {
		fault("TTL: %v is neither NoExpiry nor between %v and %v (0 means %v)", o.TTL, minTTL, maxTTL, defaultTTL)
	}
	if !(o.Jitter <= 1) { // also NaN
		fault("Jitter: %v is not a fraction of at most 1", o.Jitter)
	}
	if o.NegativeTTL > 0 && o.NegativeTTL < minTTL || o.NegativeTTL > maxTTL {
		fault("NegativeTTL: %v is not between %v and %v (0 means %v, negative turns it off)", o.NegativeTTL, minTTL, maxTTL, defaultNegativeTTL)
	}
	if o.StaleFor < 0 || o.StaleFor > 0 && o.StaleFor < minTTL || o.StaleFor > maxTTL {
		fault("StaleFor: %v is not between %v and %v (0 turns it off)", o.StaleFor, minTTL, maxTTL)
	}
	if !(o.RefreshAt >= 0 && o.RefreshAt < 1) { // also NaN
		fault("RefreshAt: %v is not a fraction below 1 (0 turns it off)", o.RefreshAt)
	}
	if o.SoftTimeout > 0 && o.SoftTimeout < minTTL || o.SoftTimeout > time.Hour {
		fault("SoftTimeout: %v is not between %v and 1h (0 waits for the load, negative does not wait)", o.SoftTimeout, minTTL)
	}
	if o.LoadTimeout < 0 || o.LoadTimeout > 0 && o.LoadTimeout < minTTL || o.LoadTimeout > time.Hour {
		fault("LoadTimeout: %v is not between %v and 1h (0 means %v)", o.LoadTimeout, minTTL, defaultLoadTimeout)
	}
	if o.Local.MaxBytes < 0 {
		fault("Local.MaxBytes: %d is negative (0 means %d)", o.Local.MaxBytes, defaultLocalBytes)
	}
	if o.Local.TTL < 0 || o.Local.TTL > 0 && o.Local.TTL < minTTL {
		fault("Local.TTL: %v is below %v (0 means the record's own)", o.Local.TTL, minTTL)
	}
	if o.MaxValueBytes < 0 || o.MaxValueBytes > maxMaxValueBytes {
		fault("MaxValueBytes: %d is not between 1 and %d (0 means %d)", o.MaxValueBytes, maxMaxValueBytes, defaultMaxValueBytes)
	}
	if o.Hold < 0 || o.Hold > 0 && o.Hold < minTTL || o.Hold > l2.LongestLease {
		fault("Hold: %v is not between %v and %v", o.Hold, minTTL, l2.LongestLease)
	}
	if o.Codec == nil {
		o.Codec = codec.Msgpack[T]()
	}
	if c, ok := o.Codec.(codec.Checker); ok {
		if err := c.Check(); err != nil {
			fault("T: %v cannot be encoded: %w", reflect.TypeFor[T](), err)
		}
	}
	if len(faults) > 0 {
		return o, fmt.Errorf("tier: cache %.80q: %w", name, errors.Join(faults...))
	}

	orDefault(&o.TTL, defaultTTL)
	orDefault(&o.Jitter, defaultJitter)
	orDefault(&o.NegativeTTL, defaultNegativeTTL)
	orDefault(&o.LoadTimeout, defaultLoadTimeout)
	orDefault(&o.Local.MaxBytes, defaultLocalBytes)
	orDefault(&o.MaxValueBytes, defaultMaxValueBytes)
	return o, nil
}

// same reports whether o and p, both resolved, describe the same cache.
// Functions are compared by identity, codecs by name.
func (o Options[T]) same(p Options[T]) bool {
	code := func(f any) uintptr { return reflect.ValueOf(f).Pointer() }
	return o.TTL == p.TTL && o.Jitter == p.Jitter && o.NegativeTTL == p.NegativeTTL &&
		o.StaleFor == p.StaleFor && o.RefreshAt == p.RefreshAt && o.SoftTimeout == p.SoftTimeout &&
		o.LoadTimeout == p.LoadTimeout && o.Local == p.Local && o.Version == p.Version &&
		o.MaxValueBytes == p.MaxValueBytes && o.Hold == p.Hold && o.Codec.Name() == p.Codec.Name() &&
		code(o.Cost) == code(p.Cost) && code(o.Tags) == code(p.Tags) && code(o.Clone) == code(p.Clone)
}

// checkTTL refuses what is too short to mean anything, or too long to count.
// Negative values have a meaning and pass.
func checkTTL(ttl time.Duration) error {
	if ttl > 0 && ttl < minTTL {
		return fmt.Errorf("ttl %v is below %v", ttl, minTTL)
	}
	if ttl > maxTTL {
		return fmt.Errorf("ttl %v is above %v; NoExpiry never ends", ttl, maxTTL)
	}
	return nil
}

// checkName holds names to what a Redis key, a channel and a metric can carry.
// The error matches ErrKey.
func checkName(name string) error {
	if name == "" {
		return fmt.Errorf("%w: name: empty", ErrKey)
	}
	if len(name) > maxName {
		return fmt.Errorf("%w: name: %d bytes long, the limit is %d", ErrKey, len(name), maxName)
	}
	if err := checkAlphabet(name); err != nil {
		return fmt.Errorf("%w: name: %w", ErrKey, err)
	}
	return nil
}
