package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// child is a process of this program under another subcommand. It ends when its
// standard input does.
type child struct {
	name    string
	cmd     *exec.Cmd
	stdin   io.Closer
	log     *os.File
	logPath string
	ended   chan struct{}
	err     error // how it ended; read after ended is closed
}

// startChild runs this program again with args, its errors going to a file in
// dir, and returns the first line that it prints.
func startChild(ctx context.Context, dir, name string, args ...string) (c *child, line string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	c = &child{name: name, ended: make(chan struct{}), logPath: dir + "/" + name + ".log"}
	if c.log, err = os.OpenFile(c.logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return nil, "", err
	}
	c.cmd = exec.Command(self, args...)
	c.cmd.Env = append(os.Environ(), childEnv+"=1")
	c.cmd.Stderr = c.log
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, "", errors.Join(err, c.log.Close())
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, "", errors.Join(err, c.log.Close())
	}
	if err := c.cmd.Start(); err != nil {
		return nil, "", errors.Join(err, c.log.Close())
	}
	lines := make(chan string, 1)
	go c.wait(stdout, lines)

	const patience = 15 * time.Second // on a machine that is busy compiling
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case line, ok := <-lines:
		if ok {
			return c, line, nil
		}
		<-c.ended
		return nil, "", fmt.Errorf("%s: ended before it was ready: %w", name, c.failure())
	case <-timeout.C:
		return nil, "", errors.Join(fmt.Errorf("%s: not ready after %v", name, patience), c.stop())
	case <-ctx.Done():
		return nil, "", errors.Join(context.Cause(ctx), c.stop())
	}
}

// wait reads what the child prints and then how it ended.
func (c *child) wait(stdout io.Reader, lines chan<- string) {
	in := bufio.NewScanner(stdout)
	if in.Scan() {
		lines <- in.Text()
	}
	close(lines)
	_, _ = io.Copy(io.Discard, stdout) // until it ends or closes it
	c.err = errors.Join(c.cmd.Wait(), c.log.Close())
	close(c.ended)
}

// stop ends the child and waits for it. One that does not go by itself is
// killed, which is an error, as is an exit status other than 0.
func (c *child) stop() error {
	_ = c.stdin.Close() // closed already if the child is gone
	const patience = 8 * time.Second
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-c.ended:
		if c.err != nil {
			return fmt.Errorf("%s: %w", c.name, c.failure())
		}
		return nil
	case <-timeout.C:
	}
	err := c.cmd.Process.Kill()
	<-c.ended
	return errors.Join(fmt.Errorf("%s: did not end within %v and was killed", c.name, patience), err)
}

// failure is how the child ended, with its last words. REQUIRES: ended.
func (c *child) failure() error {
	err := c.err
	if err == nil {
		err = errors.New("exit status 0")
	}
	words, readErr := os.ReadFile(c.logPath)
	if readErr != nil || len(words) == 0 {
		return err
	}
	const last = 2000
	return fmt.Errorf("%w; its last words:\n%s", err, strings.TrimSpace(string(words[max(0, len(words)-last):])))
}

// guard is the subcommand "guard": it runs a program that knows nothing of us,
// and kills it when standard input ends, so that it cannot outlive the parent,
// however that ends. It kills without a warning: for Redis this is a crash.
func guard(args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return errors.New("guard: what to run is missing")
	}
	ctx, stop := untilOrphaned(stdin)
	defer stop()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = stderr, stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if _, err := fmt.Fprintf(stdout, "pid %d\n", cmd.Process.Pid); err != nil {
		return errors.Join(err, cmd.Process.Kill(), <-ended)
	}
	select {
	case err := <-ended:
		return fmt.Errorf("guard: %s ended by itself: %w", args[0], errOrExit(err))
	case <-ctx.Done():
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	var killed *exec.ExitError
	if err := <-ended; err != nil && !errors.As(err, &killed) {
		return err
	}
	return nil
}

func errOrExit(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}
