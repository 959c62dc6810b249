// Package sessions keeps the sessions of signed-in users in Redis, with the hot
// ones in the memory of each process.
//
// There is no database behind them, so nothing is loaded: what Redis lost is
// signed out. And a failure must not look like that: [Sessions.Find] tells "no
// session" from "nobody knows".
//
// The secret in a token is not what stands in Redis. Its hash does, so that who
// can list keys cannot take over sessions.
package sessions

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tandemcache/tandem/keys"
	"github.com/tandemcache/tandem/keys/ghl"
	"github.com/tandemcache/tandem/tier"
)

// ErrNone says that there is no such session, or no longer.
var ErrNone = errors.New("sessions: none")

// Session is what is known of a signed-in user.
type Session struct {
	User    string
	Roles   []string
	Started time.Time
}

// Sessions starts, finds and ends sessions. All methods may be called
// concurrently.
type Sessions struct{ cache *tier.Cache[Session] }

// Open returns the sessions on node. Its Config should be Strict: else [Sessions.End]
// would not tell that other processes may not know yet.
func Open(node *tier.Node) (*Sessions, error) {
	cache, err := tier.New(node, ghl.Session().Name(), tier.Options[Session]{
		TTL: tier.TTLDay,
		// How long a process may serve a session while it cannot ask Redis
		// whether it has ended.
		Local: tier.Local{TTL: time.Minute},
	})
	if err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}
	return &Sessions{cache}, nil
}

// Start begins a session of a day and returns the token that finds it.
func (s *Sessions) Start(ctx context.Context, user string, roles ...string) (token string, err error) {
	secret := rand.Text()
	session := Session{User: user, Roles: roles, Started: time.Now()}
	if err := s.cache.Set(ctx, id(user, secret), session, 0); err != nil {
		return "", err
	}
	return secret + "." + user, nil
}

// Find returns the session of a token. ErrNone: the user has to sign in.
// tier.ErrUnavailable: Redis does not answer and this process has not seen the
// session, so a later try may find it.
func (s *Sessions) Find(ctx context.Context, token string) (Session, error) {
	secret, user, ok := strings.Cut(token, ".")
	if !ok {
		return Session{}, ErrNone
	}
	item, err := s.cache.Lookup(ctx, id(user, secret))
	if errors.Is(err, tier.ErrNotFound) {
		return Session{}, ErrNone
	}
	return item.Value, err
}

// End ends the session of a token in every process. An error says that some may
// still find it for as long as a minute; it is ended there when Redis is back.
func (s *Sessions) End(ctx context.Context, token string) error {
	secret, user, ok := strings.Cut(token, ".")
	if !ok {
		return ErrNone
	}
	return s.cache.Delete(ctx, id(user, secret))
}

// EndAll ends all sessions of a user, and returns how many there were.
func (s *Sessions) EndAll(ctx context.Context, user string) (int, error) {
	return s.cache.DeletePrefix(ctx, keys.Join(user))
}

// id is the user and then the hash of the secret, so that a prefix of whole
// segments covers all sessions of a user. The user is escaped: one called "1:2"
// is none of the sessions of "1".
func id(user, secret string) string {
	hash := sha256.Sum256([]byte(secret))
	return keys.Join(user, hex.EncodeToString(hash[:16]))
}
