package redistest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// deadline bounds every wait for a server of ours. It is far above what any of
// them takes (tens of milliseconds), because two cores may be shared by many.
const deadline = 30 * time.Second

// tick is the interval of polling a condition.
const tick = 5 * time.Millisecond

// process is a running child and what it wrote.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once the child is reaped
}

// spawn starts bin and returns once it runs. Its output goes to out.
//
// The goroutine that starts the child stays on its thread until the child is
// gone: on Linux the kernel signals the child when the *thread* that forked it
// ends, and an idle thread of the Go runtime may end long before the binary.
func spawn(out *output, env []string, bin string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(bin, args...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.WaitDelay = 5 * time.Second // a forked child that saves may hold the pipe
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		release, err := startTied(p.cmd)
		started <- err
		if err != nil {
			return
		}
		_ = p.cmd.Wait() // a signal of ours is the usual cause
		release()
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("redistest: start %s: %w", bin, err)
	}
	return p, nil
}

// exited reports whether the child is gone.
func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal sends sig; a child that is gone is not an error.
func (p *process) signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// end sends sig, wakes the child if it is stopped, and waits until it is gone.
// A child that does not go is killed, and that is an error.
func (p *process) end(sig os.Signal) error {
	if err := p.signal(sig); err != nil {
		return err
	}
	if err := p.signal(syscall.SIGCONT); err != nil {
		return err
	}
	timer := time.NewTimer(deadline)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	}
	_ = p.signal(os.Kill)
	<-p.done
	return fmt.Errorf("redistest: process %d ignored %v for %v", p.cmd.Process.Pid, sig, deadline)
}

// outputLimit is how much of a server's output is kept: the end of it.
const outputLimit = 64 << 10

// output collects what a process writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer // guards: mu
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Write(b)
	if over := o.buf.Len() - outputLimit; over > 0 {
		o.buf.Next(over)
	}
	return len(b), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// poll calls ok every tick until it says true, and returns false if that does
// not happen within deadline, or if stop is closed.
func poll(stop <-chan struct{}, ok func() bool) bool {
	timer := time.NewTimer(deadline)
	defer timer.Stop()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		if ok() {
			return true
		}
		select {
		case <-ticker.C:
		case <-stop:
			return false
		case <-timer.C:
			return false
		}
	}
}
