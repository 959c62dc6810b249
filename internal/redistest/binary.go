package redistest

import (
	"fmt"
	"os/exec"
	"testing"
)

// install lists the package managers that are looked for, in this order, and
// the line that installs Redis with each.
var install = [...]struct{ manager, line string }{
	{"apt-get", "sudo apt-get update && sudo apt-get install -y redis-server"},
	{"dnf", "sudo dnf install -y redis"},
	{"yum", "sudo yum install -y redis"},
	{"apk", "sudo apk add redis"},
	{"pacman", "sudo pacman -S --noconfirm redis"},
	{"zypper", "sudo zypper install -y redis"},
	{"brew", "brew install redis"},
	{"port", "sudo port install redis"},
}

// lookPath is exec.LookPath, and a parameter so that a test can hide binaries.
type lookPath func(file string) (string, error)

// findServer returns the path of redis-server or an error that says how to get
// it on this system.
func findServer(look lookPath) (string, error) {
	path, err := look("redis-server")
	if err == nil {
		return path, nil
	}
	for _, in := range install {
		if _, err := look(in.manager); err == nil {
			return "", fmt.Errorf("redistest: redis-server is not on PATH; these tests run against a real Redis; install it with: %s", in.line)
		}
	}
	return "", fmt.Errorf("redistest: redis-server is not on PATH, and no package manager that is known here either; build Redis 7 or newer and put redis-server on PATH: %w", err)
}

// mustFindServer is findServer for a test.
func mustFindServer(t testing.TB) string {
	t.Helper()
	path, err := findServer(exec.LookPath)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
