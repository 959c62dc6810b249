package connect

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Kind tells the ways to run Redis apart.
type Kind uint8

// The kinds of targets.
const (
	Standalone Kind = iota + 1
	Cluster
	Sentinel
)

func (k Kind) String() string {
	switch k {
	case Standalone:
		return "standalone"
	case Cluster:
		return "cluster"
	case Sentinel:
		return "sentinel"
	}
	return "unknown"
}

// Target is a parsed URL. The zero Target is not usable; see [Parse].
type Target struct {
	kind   Kind
	params url.Values // as given

	// One of them is set, according to kind.
	single   *redis.Options
	cluster  *redis.ClusterOptions
	failover *redis.FailoverOptions
}

// Kind returns what the URL points at.
func (t Target) Kind() Kind { return t.kind }

// scheme maps the name of a scheme to its kind and the scheme that go-redis parses.
func scheme(name string) (kind Kind, parsed string, ok bool) {
	base, flavor, _ := strings.Cut(name, "+")
	switch {
	case name == "unix":
		return Standalone, name, true
	case base != "redis" && base != "rediss":
		return 0, "", false
	case name == base:
		return Standalone, base, true
	case flavor == "cluster":
		return Cluster, base, true
	case flavor == "sentinel":
		return Sentinel, base, true
	}
	return 0, "", false
}

// Parse reads a URL. It connects to nothing.
func Parse(rawURL string) (Target, error) {
	u, err := split(rawURL)
	if err != nil {
		return Target{}, fmt.Errorf("connect: %w", err)
	}
	kind, parsed, ok := scheme(u.Scheme)
	if !ok {
		return Target{}, errors.New("connect: scheme is none of redis, rediss, unix, redis+cluster, rediss+cluster, redis+sentinel, rediss+sentinel")
	}
	t := Target{kind: kind, params: u.Query()}
	if err := errors.Join(checkPlace(kind, u), checkParams(kind, t.params)); err != nil {
		return Target{}, fmt.Errorf("connect: %w", err)
	}
	u.Scheme = parsed
	if err := t.parse(u); err != nil {
		return Target{}, fmt.Errorf("connect: %w", err)
	}
	return t, nil
}

// split parses a URL and refuses what a password can hide in. A password with a
// /, ? or # that is not percent-encoded ends the host there, and its rest turns
// up as path, parameter name or fragment: an @ in one of those gives it away. The
// messages of url.Parse quote the URL, so none is passed on.
func split(rawURL string) (*url.URL, error) {
	const encode = "characters such as @ : / ? # % in a user name or password must be percent-encoded (@ is %40)"
	u, err := url.Parse(rawURL)
	if err != nil || u.Opaque != "" {
		return nil, errors.New("not a URL of the form scheme://user:password@host:port; " + encode)
	}
	if strings.ContainsRune(u.EscapedPath()+u.RawQuery+u.EscapedFragment(), '@') {
		return nil, errors.New("an @ stands after the host; " + encode)
	}
	if u.Fragment != "" || u.RawFragment != "" {
		return nil, errors.New("a # begins a fragment, which has no meaning here; " + encode)
	}
	if _, err := url.ParseQuery(u.RawQuery); err != nil {
		return nil, errors.New("parameters: not of the form name=value&name=value; " + encode)
	}
	return u, nil
}

// checkPlace refuses hosts and paths that go-redis would ignore or misread.
func checkPlace(kind Kind, u *url.URL) error {
	switch {
	case u.Scheme == "unix":
		if u.Host != "" {
			return errors.New("host: unix:// takes an absolute path, written with three slashes: unix:///path/to/redis.sock")
		}
		if strings.Trim(u.Path, "/ ") == "" {
			return errors.New("path: unix:// needs the path of the socket")
		}
		return nil
	case kind == Cluster:
		if p := strings.Trim(u.Path, "/"); p != "" && p != "0" {
			return errors.New("path: a cluster has only database 0")
		}
	default:
		if !isDatabase(strings.Trim(u.Path, "/")) {
			return errors.New("path: want /n, where n is the number of a database")
		}
	}
	return nil
}

// isDatabase reports whether s is the number of a database; empty is 0.
func isDatabase(s string) bool {
	n, err := strconv.Atoi(cmp.Or(s, "0"))
	return err == nil && n >= 0
}

// checkParams refuses parameters that break the cache, and malformed ones whose
// values the parsers would quote.
func checkParams(kind Kind, params url.Values) error {
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(params)) {
		value := last(params, name)
		switch name {
		case "read_only", "replica_only", "route_by_latency", "route_randomly", "use_disconnected_replicas":
			if on, err := flag(value); err != nil || on {
				faults = append(faults, fmt.Errorf("parameter %s: reads must come from primaries, since a replica may still have what was invalidated; remove it", name))
			}
		case "context_timeout_enabled":
			if on, err := flag(value); err != nil || !on {
				faults = append(faults, errors.New("parameter context_timeout_enabled: it is on here and must stay on; remove it"))
			}
		case "addr":
			for i, addr := range params[name] {
				if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" || strings.ContainsRune(addr, '@') {
					faults = append(faults, fmt.Errorf("parameter addr, number %d: want host:port", i+1))
				}
			}
		case "db":
			if !isDatabase(value) {
				faults = append(faults, errors.New("parameter db: want the number of a database"))
			}
		}
	}
	if kind == Sentinel && last(params, "master_name") == "" {
		faults = append(faults, errors.New("parameter master_name: missing; it is the name under which the sentinels watch the primary"))
	}
	return errors.Join(faults...)
}

// parse lets go-redis read u, whose scheme it knows.
func (t *Target) parse(u *url.URL) error {
	params := u.Query()
	// These are understood by some of go-redis' parsers only.
	skip := params.Has("skip_verify")
	skipVerify, err := flag(last(params, "skip_verify"))
	if err != nil {
		return errors.New("parameter skip_verify: want true or false")
	}
	if skip && u.Scheme != "rediss" {
		return errors.New("parameter skip_verify: only for URLs with TLS (rediss)")
	}
	params.Del("skip_verify")
	params.Del("context_timeout_enabled")
	// go-redis takes 0 for "the default", which would be three retries.
	if last(params, "max_retries") == "0" {
		params.Set("max_retries", "-1")
	}
	u.RawQuery = params.Encode()

	switch t.kind {
	case Cluster:
		u.Path = ""
		t.cluster, err = redis.ParseClusterURL(u.String())
	case Sentinel:
		t.failover, err = redis.ParseFailoverURL(u.String())
	default:
		t.single, err = redis.ParseURL(u.String())
	}
	if err != nil {
		// What is left for go-redis to refuse are parameters: names that it does
		// not know and values that are no number or duration.
		return errors.New(strings.TrimPrefix(err.Error(), "redis: "))
	}
	if config := t.tls(); config != nil {
		config.InsecureSkipVerify = skipVerify
	}
	return nil
}

// flag reads a boolean parameter as go-redis does.
func flag(s string) (bool, error) {
	switch s {
	case "true", "1":
		return true, nil
	case "false", "0", "":
		return false, nil
	}
	return false, errors.New("want true or false")
}

// last returns the value that counts when a parameter is given several times.
func last(params url.Values, name string) string {
	values := params[name]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}
