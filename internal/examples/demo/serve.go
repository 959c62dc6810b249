package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/tandemcache/tandem/keys/ghl"
	"github.com/tandemcache/tandem/tier"
)

// announcement begins the line by which a service tells where it listens.
const announcement = "listening on "

// serve is the subcommand "service": one service process. It ends when its
// standard input does, which the parent's death brings about as well.
// newHandler makes what answers the requests.
func serve(args []string, stdin io.Reader, stdout, stderr io.Writer, newHandler handlerOf) error {
	flags := flag.NewFlagSet("service", flag.ContinueOnError)
	flags.SetOutput(stderr)
	path := flags.String("db", "", "database file")
	url := flags.String("redis", "", "URL of Redis")
	latency := flags.Duration("latency", 0, "time that each query waits")
	heartbeat := flags.Duration("heartbeat", 0, "how often the node proves that it hears")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, stop := untilOrphaned(stdin)
	defer stop()

	db, err := openDatabase(*path, *latency)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // its file is only read from here on
	node, err := tier.Open(ctx, tier.Config{
		URL: *url, Prefix: ghl.Namespace, Timeout: redisTimeout, Heartbeat: *heartbeat,
		Logger: slog.New(slog.NewTextHandler(stderr, nil)),
	})
	if err != nil {
		return err
	}
	handler, err := newHandler(node, db)
	if err == nil {
		err = listen(ctx, handler, stdout)
	}
	settle, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return errors.Join(err, node.Shutdown(settle))
}

// handlerOf makes the handler of a service.
type handlerOf func(node *tier.Node, db *database) (http.Handler, error)

func newServiceHandler(node *tier.Node, db *database) (http.Handler, error) {
	s, err := newService(node, db)
	if err != nil {
		return nil, err
	}
	return s.handler(), nil
}

// listen serves HTTP on a free port of loopback until ctx ends.
func listen(ctx context.Context, handler http.Handler, stdout io.Writer) error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	if _, err := fmt.Fprintf(stdout, "%s%s\n", announcement, l.Addr()); err != nil {
		return errors.Join(err, server.Close())
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return server.Shutdown(last)
}

// untilOrphaned returns a context that ends when stdin is at its end, or with
// SIGTERM. Ctrl-C reaches the whole process group; the parent decides what it
// means, so it is ignored here.
//
// The parent holds the other end of stdin and never writes. However it ends,
// the kernel closes that end, so no child outlives it.
func untilOrphaned(stdin io.Reader) (context.Context, context.CancelFunc) {
	signal.Ignore(os.Interrupt)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	ctx, cancel := context.WithCancel(ctx)
	go func() { // ends with stdin
		_, _ = io.Copy(io.Discard, stdin)
		cancel()
	}()
	return ctx, func() { cancel(); stop() }
}
