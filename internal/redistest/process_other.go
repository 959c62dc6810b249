//go:build !linux

package redistest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// startTied starts cmd and a shell that kills it when this binary dies. The
// shell blocks on a pipe of which only this binary holds the other end: the
// kernel closes it on any death. release tells the shell that there is nothing
// left to kill, so that a recycled pid is never hit.
func startTied(cmd *exec.Cmd) (release func(), err error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	watch := exec.Command("/bin/sh", "-c", fmt.Sprintf("read gone || kill -9 %d", cmd.Process.Pid))
	pipe, err := watch.StdinPipe()
	if err == nil {
		err = watch.Start()
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, fmt.Errorf("start the watchdog: %w", err)
	}
	return func() {
		_, _ = io.WriteString(pipe, "gone\n")
		_ = pipe.Close()
		_ = watch.Wait()
	}, nil
}

// suspended reports whether pid is stopped by a signal.
func suspended(pid int) bool {
	ps := exec.Command("ps", "-o", "state=", "-p", fmt.Sprint(pid))
	ps.Stderr = os.Stderr
	state, err := ps.Output()
	return err == nil && strings.HasPrefix(strings.TrimSpace(string(state)), "T")
}
