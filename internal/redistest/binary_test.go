package redistest

import (
	"fmt"
	"os/exec"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFindServer_namesTheLineToRun(t *testing.T) {
	for _, in := range install {
		t.Run(in.manager, func(t *testing.T) {
			_, err := findServer(func(file string) (string, error) {
				if file == in.manager {
					return "/bin/" + file, nil
				}
				return "", exec.ErrNotFound
			})
			require.Error(t, err)
			assert.Contains(t, err.Error(), in.line)
		})
	}
	_, err := findServer(func(string) (string, error) { return "", exec.ErrNotFound })
	assert.ErrorIs(t, err, exec.ErrNotFound)
}

func TestStart_failsWithoutTheBinary(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	fake := &failing{TB: t}
	fake.run(func() { Start(fake) })
	assert.True(t, fake.failed)
	assert.False(t, fake.skipped)
	assert.Contains(t, fake.text, "redis-server is not on PATH")
}

func TestStart_printsWhatTheServerWrote(t *testing.T) {
	fake := &failing{TB: t}
	fake.run(func() { Start(fake, WithConfig("no-such-directive", "1")) })
	fake.cleanup()
	assert.True(t, fake.failed)
	assert.Contains(t, fake.text, "redis-server exited")
	assert.Contains(t, fake.text, "no-such-directive")
}

// failing is a TB that records its end instead of failing the test around it.
type failing struct {
	testing.TB
	failed, skipped bool
	text            string
	cleanups        []func()
}

func (f *failing) Helper()           {}
func (f *failing) Failed() bool      { return f.failed }
func (f *failing) Cleanup(fn func()) { f.cleanups = append(f.cleanups, fn) }

func (f *failing) Fatal(args ...any) {
	f.Error(args...)
	runtime.Goexit()
}

func (f *failing) Fatalf(format string, args ...any) {
	f.Fatal(fmt.Sprintf(format, args...))
}

func (f *failing) Error(args ...any) {
	f.failed = true
	f.text += fmt.Sprintln(args...)
}

func (f *failing) Errorf(format string, args ...any) { f.Error(fmt.Sprintf(format, args...)) }
func (f *failing) Logf(format string, args ...any)   { f.text += fmt.Sprintf(format, args...) }

func (f *failing) Skip(...any) { f.skipped = true; runtime.Goexit() }

func (f *failing) cleanup() {
	for i := len(f.cleanups) - 1; i >= 0; i-- {
		f.cleanups[i]()
	}
}

// run runs fn as a test that may call Fatal.
func (f *failing) run(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	<-done
}
