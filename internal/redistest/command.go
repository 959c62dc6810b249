package redistest

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Do runs a command on a connection of this package's own and returns its
// reply, nil for a nil reply. An error reply fails the test.
func (s *Server) Do(args ...any) any {
	s.t.Helper()
	reply, err := s.do(args...)
	s.must(err)
	return reply
}

func (s *Server) do(args ...any) (any, error) {
	s.mu.Lock()
	admin := s.admin
	s.mu.Unlock()
	if admin == nil {
		return nil, fmt.Errorf("%v: the server is stopped", args[0])
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	reply, err := admin.Do(ctx, args...).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%v: %w", args[0], err)
	}
	return reply, nil
}

// FlushAll removes every key of every database.
func (s *Server) FlushAll() {
	s.t.Helper()
	s.Do("flushall")
}
