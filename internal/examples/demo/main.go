// Command demo shows Tandem at work and measures what it promises: two
// processes of a user service in front of an SQL database share one Redis,
// answer a load of reads and updates, lose Redis for three seconds, and go on.
//
//	go run ./demo
//
// It makes everything itself: an SQLite database of 100,000 users (kept for the
// next run), redis-server on a free port of 127.0.0.1 (or an imitation in this
// process where there is none), the two processes, and the load. Beside the load
// probes measure how soon one process obeys the other, and duels let reads run
// into updates of the same user. Every answer is checked against what had been
// acknowledged when the read was sent. At the end it prints a table.
//
// The exit status is 0 if every promise held, 1 if one broke or if the run was
// too poor to show anything (no outage seen, no hit, no load overtaken by an
// update: it is void), 2 for bad flags, 130 if it was interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// childEnv is set in the environment of this program's own children.
const childEnv = "TANDEM_DEMO_CHILD"

// Exit statuses.
const (
	exitHeld        = 0
	exitBroken      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() { os.Exit(dispatch(os.Args[1:])) }

// dispatch runs the demo, or one of the subcommands by which it starts itself.
func dispatch(args []string) int {
	if os.Getenv(childEnv) == "" || len(args) == 0 {
		return demo(args, os.Stdout, os.Stderr)
	}
	var err error
	switch args[0] {
	case "service":
		err = serve(args[1:], os.Stdin, os.Stdout, os.Stderr, newServiceHandler)
	case "guard":
		err = guard(args[1:], os.Stdin, os.Stdout, os.Stderr)
	default:
		err = fmt.Errorf("no subcommand %q", args[0])
	}
	if err != nil {
		say(os.Stderr, "%v\n", err)
		return exitBroken
	}
	return exitHeld
}

// config is what the flags say.
type config struct {
	Duration  time.Duration // of the load
	Outage    time.Duration // of Redis, half-way
	Latency   time.Duration // of each query
	Heartbeat time.Duration // of the nodes
	Seed      uint64
	Users     int
	Rate      int
	Workers   int
	Redis     string
	Dir       string

	service string // the subcommand by which a service is started; tests have others
}

func parseFlags(args []string, output io.Writer) (config, error) {
	c := config{service: "service"}
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.DurationVar(&c.Duration, "duration", 24*time.Second, "how long the load lasts")
	flags.DurationVar(&c.Outage, "outage", 3*time.Second, "how long Redis is stopped, half-way")
	flags.DurationVar(&c.Latency, "latency", 2*time.Millisecond, "artificial time of each query, which stands for a network")
	flags.DurationVar(&c.Heartbeat, "heartbeat", time.Second, "how often a node proves that it hears; Δ follows from it")
	flags.Uint64Var(&c.Seed, "seed", 1, "of the load")
	flags.IntVar(&c.Users, "users", 100_000, "rows in the database")
	flags.IntVar(&c.Rate, "rate", 3000, "requests a second; 0: as many as go")
	flags.IntVar(&c.Workers, "workers", 32, "requests at a time")
	flags.StringVar(&c.Redis, "redis", redisAuto, redisReal+", "+redisMini+", or "+redisAuto+": the first if it is on PATH")
	flags.StringVar(&c.Dir, "dir", defaultDir(), "where the database is kept")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	if flags.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return c, c.validate()
}

func (c config) validate() error {
	var faults []error
	require := func(ok bool, text string) {
		if !ok {
			faults = append(faults, errors.New(text))
		}
	}
	require(c.Outage > 0, "-outage: not above 0")
	require(c.Duration >= 2*c.Outage && c.Duration >= time.Second, "-duration: below 1s or twice the outage")
	require(c.Latency >= 0, "-latency: negative")
	require(c.Heartbeat >= 50*time.Millisecond, "-heartbeat: below 50ms")
	require(c.Users >= 10, "-users: below 10")
	require(c.Rate >= 0, "-rate: negative")
	require(c.Workers >= 1, "-workers: below 1")
	require(slices.Contains([]string{redisAuto, redisReal, redisMini}, c.Redis),
		fmt.Sprintf("-redis: %q is none of %s, %s, %s", c.Redis, redisAuto, redisReal, redisMini))
	require(c.Rate == 0 || c.Rate >= c.Workers/10, "-rate: below a tenth of the workers")
	return errors.Join(faults...)
}

// demo runs the demo and returns the exit status.
func demo(args []string, stdout, stderr io.Writer) int {
	cfg, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitHeld
	}
	if err != nil {
		say(stderr, "demo: %v\n", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return perform(ctx, cfg, stdout, stderr)
}

// perform runs the demo as cfg says. Only a run that was complete, and in which
// the promises were tried and held, has the status exitHeld.
func perform(ctx context.Context, cfg config, stdout, stderr io.Writer) int {
	out, err := run(ctx, cfg, stdout)
	switch {
	case ctx.Err() != nil:
		say(stderr, "demo: interrupted\n")
		return exitInterrupted
	case err != nil:
		say(stderr, "demo: %v\n", err)
		return exitBroken
	}
	out.print(stdout)
	if len(out.Verdict) > 0 {
		say(stderr, "demo: failed, see above\n")
		return exitBroken
	}
	return exitHeld
}
