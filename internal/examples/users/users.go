// Package users is a user service as an application would write it over Tandem:
// it reads through the cache, and shows the two ways to change what is cached.
//
// Its tests need no server: a node with the zero Config is the whole cache in
// memory, and so stands for it wherever this service is used in tests.
package users

import (
	"context"
	"fmt"

	"github.com/tandemcache/tandem/keys/ghl"
	"github.com/tandemcache/tandem/tier"
)

// User is a row of the database.
type User struct {
	ID   string
	Name string
	Plan string
}

// Database is what the service needs of one. Find returns tier.ErrNotFound for
// a user that does not exist.
type Database interface {
	Find(ctx context.Context, id string) (User, error)
	Save(ctx context.Context, u User) error
}

// Service reads and changes users. All methods may be called concurrently.
type Service struct {
	db    Database
	cache *tier.Cache[User]
}

// New returns a service over db that caches on node.
func New(node *tier.Node, db Database) (*Service, error) {
	cache, err := tier.New(node, ghl.User().Name(), tier.Options[User]{TTL: tier.TTLMedium})
	if err != nil {
		return nil, fmt.Errorf("users: %w", err)
	}
	return &Service{db: db, cache: cache}, nil
}

// User returns a user: from memory, from Redis, or from the database. The error
// is the database's; that there is no such user is remembered as well.
func (s *Service) User(ctx context.Context, id string) (User, error) {
	return s.cache.GetOrSet(ctx, ghl.User().ID(id), 0, func(ctx context.Context) (User, error) {
		return s.db.Find(ctx, id)
	})
}

// Rename changes the name of a user, and returns when no read that begins later
// in this process sees the old one. Other processes may for a moment longer.
//
// It invalidates after the update, which is short and enough where a stale name
// does no harm: if this process dies between the two, the old one stands in the
// cache for its TTL.
func (s *Service) Rename(ctx context.Context, id, name string) error {
	u, err := s.db.Find(ctx, id) // not from the cache: what is written must be true
	if err != nil {
		return err
	}
	u.Name = name
	// First the database, then the cache. The other way round a reader could put
	// the old row back between the two.
	if err := s.db.Save(ctx, u); err != nil {
		return err
	}
	return s.cache.Delete(ctx, ghl.User().ID(id))
}

// SetPlan changes what a user pays for. It puts the update in the bracket of the
// cache, so that a process that dies in it leaves the key empty, and two changes
// at once cannot leave the older one behind. The new row is cached at once.
func (s *Service) SetPlan(ctx context.Context, id, plan string) error {
	_, err := s.cache.Update(ctx, ghl.User().ID(id), 0, func(ctx context.Context) (User, error) {
		u, err := s.db.Find(ctx, id)
		if err != nil {
			return User{}, err
		}
		u.Plan = plan
		return u, s.db.Save(ctx, u)
	})
	return err
}
