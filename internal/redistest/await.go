package redistest

import "testing"

// await polls until check returns nil, and fails t with its last error if that
// does not happen in time.
func await(t testing.TB, what string, check func() error) {
	t.Helper()
	var last error
	if !poll(nil, func() bool { last = check(); return last == nil }) {
		t.Fatalf("redistest: %s: not within %v: %v", what, deadline, last)
	}
}
