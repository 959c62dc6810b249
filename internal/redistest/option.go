package redistest

import (
	"fmt"
	"strings"
)

// Option changes how a server is started.
type Option func(*config)

// config is what a server is started with.
type config struct {
	password string
	socket   bool
	tls      bool
	persist  bool
	sentinel bool
	replicas int
	watchers int
	lines    []string // of redis.conf, last, so that they win
	env      []string // of the process, beside our own
}

// WithPassword makes clients authenticate as the default user.
func WithPassword(password string) Option {
	return func(c *config) { c.password = password }
}

// WithUser adds an ACL user; rules are those of ACL SETUSER, as in
// WithUser("app", "on", ">secret", "~app:*", "+@all"). The default user stays
// as it is.
func WithUser(name string, rules ...string) Option {
	return func(c *config) {
		c.lines = append(c.lines, "user "+name+" "+strings.Join(rules, " "))
	}
}

// WithUnixSocket makes the server listen on a Unix socket as well, and
// [Server.URL] and [Server.Client] use that one.
func WithUnixSocket() Option {
	return func(c *config) { c.socket = true }
}

// WithTLS makes the server speak only TLS on its port, with a certificate for
// 127.0.0.1 that is made for this server alone. [Server.TLS] trusts it.
func WithTLS() Option {
	return func(c *config) { c.tls = true }
}

// WithPersistence makes the server write every change to an append-only file,
// synced before the reply, so that [Server.Restart] comes back with the data,
// after [Server.Kill] too.
func WithPersistence() Option {
	return func(c *config) { c.persist = true }
}

// WithConfig sets a directive of redis.conf, as in
// WithConfig("client-output-buffer-limit", "pubsub", "1mb", "1mb", "1").
// It wins over what this package sets.
func WithConfig(directive string, args ...string) Option {
	return func(c *config) {
		quoted := make([]string, len(args))
		for i, arg := range args {
			quoted[i] = quote(arg)
		}
		c.lines = append(c.lines, directive+" "+strings.Join(quoted, " "))
	}
}

// quote writes an argument of redis.conf, which may be empty or hold spaces.
func quote(arg string) string { return fmt.Sprintf("%q", arg) }
