package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// childEnv is set for this program's own children; its value is the task, and
// standard input carries what it needs.
const childEnv = "TANDEM_BENCH_CHILD"

// task is what a child process does. It reports with say; when its standard input
// ends it must end.
type task func(ctx context.Context, in order, say func(any) error) error

// order is what a child is told.
type order struct {
	Peer    string
	Addr    string
	Keys    int
	Size    int
	Bytes   int64
	Workers int
	Length  time.Duration
	At      time.Time // begin then
	Probes  []string
}

func tasks() map[string]task {
	return map[string]task{
		"stampede": stampedeChild, "obey": obeyChild, "mixed": mixedChild, "memory": memoryChild,
	}
}

// childMain runs a task if this process is a child.
func childMain() bool {
	name := os.Getenv(childEnv)
	if name == "" {
		return false
	}
	if err := runTask(name); err != nil {
		fmt.Fprintln(os.Stderr, "bench: child:", err)
		os.Exit(1)
	}
	return true
}

func runTask(name string) error {
	f := tasks()[name]
	if f == nil {
		return fmt.Errorf("no task %q", name)
	}
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	var o order
	if err := json.Unmarshal(line, &o); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // the parent ends it, or has died
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	return f(ctx, o, json.NewEncoder(os.Stdout).Encode)
}

// child is a process that runs a task.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

func startChild(name string, o order) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{cmd, in, json.NewDecoder(out)}
	return c, json.NewEncoder(in).Encode(o)
}

// hear waits for the child's next report.
func (c *child) hear(v any) error { return c.out.Decode(v) }

// stop ends the child's input and waits for its end.
func (c *child) stop() error {
	_ = c.in.Close()
	done := make(chan error, 1)
	go func() { done <- c.cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		_ = c.cmd.Process.Kill()
		return errors.Join(errors.New("a child did not end"), <-done)
	}
}
