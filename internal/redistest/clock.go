//go:build cgo && linux

package redistest

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// clockShim stands between a server and the wall clock. Monotonic clocks stay as
// they are.
const clockShim = `#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile long long *off; // microseconds

__attribute__((constructor)) static void begin(void) {
	int fd = open(getenv("REDISTEST_CLOCK"), O_RDONLY);
	void *p = mmap(0, 8, PROT_READ, MAP_SHARED, fd, 0);
	if (fd < 0 || p == MAP_FAILED) abort();
	off = p;
}

int clock_gettime(clockid_t id, struct timespec *ts) {
	static int (*real)(clockid_t, struct timespec *);
	if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	int r = real(id, ts);
	if (r == 0 && off && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
		long long us = ts->tv_sec * 1000000LL + ts->tv_nsec / 1000 + *off;
		ts->tv_sec = us / 1000000;
		ts->tv_nsec = us % 1000000 * 1000;
	}
	return r;
}

int gettimeofday(struct timeval *restrict tv, void *restrict tz) {
	struct timespec ts;
	(void)tz;
	int r = clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return r;
}

time_t time(time_t *t) {
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	if (t) *t = ts.tv_sec;
	return ts.tv_sec;
}
`

// Clock is the wall clock of servers started with [WithClock]. [NewClock] makes
// one. It needs a C compiler, as cgo does, and Linux.
type Clock struct {
	t    testing.TB
	lib  string
	file string
}

// NewClock makes a clock that shows the time.
func NewClock(t testing.TB) *Clock {
	t.Helper()
	dir := t.TempDir()
	c := &Clock{t: t, lib: filepath.Join(dir, "clock.so"), file: filepath.Join(dir, "offset")}
	source := filepath.Join(dir, "clock.c")
	if err := os.WriteFile(source, []byte(clockShim), 0o600); err != nil {
		t.Fatalf("redistest: %v", err)
	}
	//nolint:gosec // the compiler and the names are ours
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-O1", "-o", c.lib, source, "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("redistest: cc: %v\n%s", err, out)
	}
	c.Set(0)
	return c
}

// WithClock makes a server's wall clock c.
func WithClock(c *Clock) Option {
	return func(cfg *config) {
		cfg.env = append(cfg.env, "LD_PRELOAD="+c.lib, "REDISTEST_CLOCK="+c.file)
	}
}

// Set makes the clock show the time plus offset, at once.
func (c *Clock) Set(offset time.Duration) {
	c.t.Helper()
	// In place: the servers have the file mapped.
	f, err := os.OpenFile(c.file, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(offset.Microseconds())), 0)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		c.t.Fatalf("redistest: clock: %v", err)
	}
}
