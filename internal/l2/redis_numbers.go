package l2

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Marker implements Store.
func (r *Redis) Marker(ctx context.Context, key string, floor uint64, msg []byte) (uint64, error) {
	return r.version(ctx, r.scripts.marker, key, floor, msg)
}

// Raise implements Store.
func (r *Redis) Raise(ctx context.Context, key string, floor uint64, msg []byte) (uint64, error) {
	return r.version(ctx, r.scripts.raise, key, floor, msg)
}

func (r *Redis) version(ctx context.Context, sc *script, key string, floor uint64, msg []byte) (uint64, error) {
	if err := checkMessage(msg); err != nil {
		return 0, err
	}
	v, err := r.eval(ctx, sc, key, true, r.opt.Channel, bytesOf(msg), be(floor))
	if err != nil {
		if strings.Contains(err.Error(), "marker overflow") {
			return 0, fmt.Errorf("%w: marker %q is at its end", ErrNotInteger, key)
		}
		return 0, err
	}
	text, ok := v.(string)
	if !ok || len(text) != 8 {
		return 0, unexpected(v)
	}
	return binary.BigEndian.Uint64([]byte(text)), nil
}

// markerLimit is more than a marker has digits.
const markerLimit = 21

// markerOf reads the reply to a GETRANGE of a marker.
func markerOf(cmd onceString, err error) (uint64, error) {
	if err != nil {
		if redis.HasErrorPrefix(err, "WRONGTYPE") {
			return 0, nil
		}
		return 0, classify(err).wrap(err, false)
	}
	return parseMarker(cmd.Val()), nil
}

// Add implements Store.
func (r *Redis) Add(ctx context.Context, key string, delta int64, window time.Duration) (int64, error) {
	if err := checkSpan("window", window); err != nil {
		return 0, err
	}
	v, err := r.eval(ctx, r.scripts.add, key, true, delta, millis(window))
	if err != nil {
		return 0, countError(key, err)
	}
	return countOf(key, v)
}

// Take implements Store.
func (r *Redis) Take(ctx context.Context, key string, limit int64, window time.Duration) (taken bool, count int64, left time.Duration, err error) {
	if err := checkSpan("window", window); err != nil {
		return false, 0, 0, err
	}
	v, err := r.eval(ctx, r.scripts.take, key, true, limit, millis(window))
	if err != nil {
		return false, 0, 0, countError(key, err)
	}
	list, ok := v.([]any)
	if !ok || len(list) != 3 {
		return false, 0, 0, unexpected(v)
	}
	n, ok1 := list[0].(int64)
	ttl, ok2 := list[2].(int64)
	if !ok1 || !ok2 {
		return false, 0, 0, unexpected(v)
	}
	count, err = countOf(key, list[1])
	return err == nil && n == 1, count, leftOf(ttl), err
}

// Count implements Store.
func (r *Redis) Count(ctx context.Context, key string) (count int64, left time.Duration, found bool, err error) {
	v, err := r.eval(ctx, r.scripts.count, key, false)
	if err != nil {
		return 0, 0, false, countError(key, err)
	}
	list, ok := v.([]any)
	if !ok || len(list) != 2 {
		return 0, 0, false, unexpected(v)
	}
	ttl, ok := list[1].(int64)
	if !ok {
		return 0, 0, false, unexpected(v)
	}
	if list[0] == "" {
		return 0, -1, false, nil
	}
	count, err = countOf(key, list[0])
	return count, leftOf(ttl), err == nil, err
}

func countOf(key string, v any) (int64, error) {
	text, ok := v.(string)
	if !ok {
		return 0, unexpected(v)
	}
	return parseCount(key, text)
}

func leftOf(ms int64) time.Duration {
	if ms < 0 {
		return -1
	}
	return time.Duration(ms) * time.Millisecond
}

// countError names the key of a counter that is none, or is full.
func countError(key string, err error) error {
	text := err.Error()
	if strings.Contains(text, "not an integer") || strings.Contains(text, "overflow") || strings.Contains(text, "WRONGTYPE") {
		return notInteger(key)
	}
	return err
}
