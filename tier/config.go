package tier

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/connect"
	"github.com/tandemcache/tandem/invalidation"
)

// Durations for the ttl of a call, by how often the data changes.
const (
	TTLShort  = time.Minute     // frequently changing
	TTLMedium = 5 * time.Minute // moderately stable
	TTLLong   = time.Hour       // rarely changing
	TTLDay    = 24 * time.Hour  // very stable

	// NoExpiry is a ttl that never ends. The zero ttl is the cache's default.
	NoExpiry time.Duration = -1
)

// Defaults of Config.
const (
	defaultPrefix     = "tandem"
	defaultTimeout    = 200 * time.Millisecond
	defaultHeartbeat  = time.Second
	defaultMaxPending = 65_536

	defaultMaxBackground = 256

	// Sums and doubles of these must stay durations.
	maxTimeout, maxHeartbeat = time.Hour, time.Hour
)

// Config describes a [Node]. The zero value is a working node without Redis:
// a complete in-memory cache. A Config is copied by Open and never changed.
type Config struct {
	// URL says where Redis is:
	//
	//	redis://user:password@host:6379/0         one server, or a primary
	//	rediss://...                              the same over TLS
	//	unix:///run/redis.sock?db=0               a unix socket
	//	redis+cluster://a:6379?addr=b:6379        Redis Cluster
	//	redis+sentinel://s:26379?master_name=m    a primary found by Sentinel
	//
	// with rediss+cluster and rediss+sentinel for TLS. Empty, with Redis nil
	// too, means no Redis.
	URL string

	// Redis is a client to use instead of URL. It stays the caller's to close.
	// *redis.Client and *redis.ClusterClient are taken; one that reads from
	// replicas or caches replies itself is refused by Open. Its own retries are
	// not used, and its calls end by Timeout: Tandem uses a copy that shares its
	// connections, without its hooks, unless ContextTimeoutEnabled is on and
	// MaxRetries is -1.
	Redis redis.UniversalClient

	// Prefix begins every key, lease and channel: letters, digits, '.', '_'
	// and '-'. Default "tandem".
	Prefix string

	// Logger receives what background work has to say, at Warn at most. Nil
	// discards it.
	Logger *slog.Logger

	// Strict makes Set, Delete, Clear and their like return ErrUnavailable when
	// Redis did not confirm. The change is owed and replayed in either case.
	Strict bool

	// Timeout bounds one Redis call, and all Redis time of one read together; of
	// a batch that of each step: to look, to lease, and to store a pipeline.
	// Default 200 ms, at least 1 ms, at most an hour.
	Timeout time.Duration

	// Heartbeat is how often a node proves that it hears invalidations.
	// Default 1 s, at least 10 ms, at most an hour. The bound Δ of BoundedStaleness
	// follows from it; see NodeStats.MaxStaleness.
	Heartbeat time.Duration

	// Tracking has Redis itself announce every change of a key under the prefix
	// (CLIENT TRACKING ON BCAST, over RESP3; Redis 6 or later), so that this
	// node's memory obeys also what sends no message: redis-cli, programs in
	// other languages, eviction, FLUSHALL and FLUSHDB. What the nodes of the
	// fleet change they tell each other with or without it.
	//
	// Where a server answers and does not track, or does not let this user
	// (HELLO, CLIENT TRACKING, SUBSCRIBE prefix:!tracking), Open returns an
	// error. Where that turns out later, or while the connection for
	// announcements is away, memory is not served as fresh: reads go to Redis,
	// Health says why, and it is tried again. With Redis at hand, Open waits for
	// this for at most 2 s, or Timeout if that is longer.
	//
	// It costs one connection to each master, and CPU on Redis for each change
	// and each node. An announcement does not say what changed: a node hears of
	// its own changes, of leases and of their renewals as well, drops the entry,
	// and reads it again, at once in the background if it used the key in the
	// last second. That is one to two reads more for each value stored. So turn
	// it on where strangers do change the cache, and not otherwise.
	//
	// It does not see SWAPDB, nor what happens while a failover has not been
	// noticed. On a cluster, while one master cannot be heard, no memory is
	// served as fresh.
	Tracking bool

	// MaxPending is how many unconfirmed invalidations are kept one by one.
	// Past it those of the cache that owes the most are folded into clearing it,
	// and in the end all into clearing everything under Prefix. Default 65,536,
	// at least 2.
	MaxPending int

	// MaxBackground is how many loads may run in the background at once, over
	// all caches: those of Options.RefreshAt, and those that Options.SoftTimeout
	// leaves behind. What is more is skipped, and tried again by a later read;
	// NodeStats.Background counts it. Default 256.
	MaxBackground int

	// Bus connects nodes without Redis in one process, for tests. It must be
	// nil on a node with Redis, whose bus is Redis pub/sub.
	Bus invalidation.Bus
}

// ConfigFromEnv reads a Config from the environment: REDIS_URL (empty or unset
// means no Redis) and CACHE_PREFIX (empty or unset means the default). The
// error names every variable that is wrong. No other function of this module
// reads the environment.
func ConfigFromEnv() (Config, error) {
	cfg := Config{URL: os.Getenv("REDIS_URL"), Prefix: os.Getenv("CACHE_PREFIX")}
	var faults []error
	if cfg.URL != "" {
		if _, err := connect.Parse(cfg.URL); err != nil {
			faults = append(faults, fmt.Errorf("REDIS_URL: %w", err))
		}
	}
	if err := checkPrefix(cfg.Prefix); err != nil {
		faults = append(faults, fmt.Errorf("CACHE_PREFIX: %w", err))
	}
	if len(faults) > 0 {
		return Config{}, fmt.Errorf("tier: environment: %w", errors.Join(faults...))
	}
	return cfg, nil
}

// resolve returns c with defaults in place of zero values, or one error that
// names every fault.
func (c Config) resolve() (Config, error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if c.URL != "" && c.Redis != nil {
		fault("URL and Redis are both set: give one")
	}
	if c.Bus != nil && (c.URL != "" || c.Redis != nil) {
		fault("Bus: only for nodes without Redis, which brings its own")
	}
	if c.Tracking && c.URL == "" && c.Redis == nil {
		fault("Tracking: only for nodes with Redis, which announces the changes")
	}
	if c.URL != "" {
		if _, err := connect.Parse(c.URL); err != nil {
			fault("URL: %w", err)
		}
	}
	if c.Redis != nil {
		if _, err := connect.Inspect(c.Redis); err != nil {
			fault("Redis: %w", err)
		}
	}
	if err := checkPrefix(c.Prefix); err != nil {
		fault("Prefix: %w", err)
	}
	if c.Timeout != 0 && (c.Timeout < time.Millisecond || c.Timeout > maxTimeout) {
		fault("Timeout: %v is not between 1ms and %v (0 means %v)", c.Timeout, maxTimeout, defaultTimeout)
	}
	if c.Heartbeat != 0 && (c.Heartbeat < 10*time.Millisecond || c.Heartbeat > maxHeartbeat) {
		fault("Heartbeat: %v is not between 10ms and %v (0 means %v)", c.Heartbeat, maxHeartbeat, defaultHeartbeat)
	}
	if c.MaxPending < 0 {
		fault("MaxPending: %d is negative (0 means %d)", c.MaxPending, defaultMaxPending)
	}
	if c.MaxBackground < 0 {
		fault("MaxBackground: %d is negative (0 means %d)", c.MaxBackground, defaultMaxBackground)
	}
	if len(faults) > 0 {
		return Config{}, fmt.Errorf("tier: config: %w", errors.Join(faults...))
	}

	orDefault(&c.Prefix, defaultPrefix)
	orDefault(&c.Timeout, defaultTimeout)
	orDefault(&c.Heartbeat, defaultHeartbeat)
	orDefault(&c.MaxPending, defaultMaxPending)
	orDefault(&c.MaxBackground, defaultMaxBackground)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// orDefault puts def in place of the zero value.
func orDefault[V comparable](field *V, def V) {
	var zero V
	if *field == zero {
		*field = def
	}
}

// checkPrefix accepts the empty prefix, which stands for the default.
func checkPrefix(prefix string) error {
	const maxPrefix = 64
	if len(prefix) > maxPrefix {
		return fmt.Errorf("%d bytes long, the limit is %d", len(prefix), maxPrefix)
	}
	return checkAlphabet(prefix)
}

// checkAlphabet holds prefixes and cache names to characters that mean nothing
// to Redis' glob patterns, hash tags and ACL rules, nor to our own grammar.
func checkAlphabet(s string) error {
	bad := strings.IndexFunc(s, func(r rune) bool {
		return !isAlphanumeric(r) && !strings.ContainsRune("._-", r)
	})
	if bad >= 0 {
		return fmt.Errorf("%.80q has a character at byte %d that is not a letter, digit, '.', '_' or '-'", s, bad)
	}
	return nil
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}
