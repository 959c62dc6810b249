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
	params url.Values // as given; some hold secrets

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

// Parse reads a URL. It connects to nothing. The error names every fault, unless
// it cannot tell the parts of the URL apart.
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
	place := checkPlace(kind, u)
	if place != nil {
		u.Host, u.Path = "localhost:6379", ""
		if u.Scheme == "unix" {
			u.Host, u.Path = "", "/redis.sock"
		}
	}
	query := u.RawQuery
	params, faults := checkParams(kind, u)
	u.Scheme, u.RawQuery = parsed, params.Encode()
	if err := errors.Join(place, faults, t.parse(u, query)); err != nil {
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
// values the parsers would quote. It returns those that are left for go-redis.
func checkParams(kind Kind, u *url.URL) (url.Values, error) {
	params := u.Query()
	var faults []error
	refuse := func(name, reason string) {
		faults = append(faults, fmt.Errorf("parameter %s: %s", name, reason))
		params.Del(name)
	}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		value := last(params, name)
		on, err := flag(value)
		switch name {
		case "read_only", "replica_only", "route_by_latency", "route_randomly", "use_disconnected_replicas":
			if err != nil || on {
				refuse(name, "reads must come from primaries, since a replica may still have what was invalidated; remove it")
			}
		case "context_timeout_enabled":
			if err != nil || !on {
				refuse(name, "it is on here and must stay on; remove it")
			}
			params.Del(name) // not all of go-redis' parsers know it
		case "skip_verify":
			switch {
			case err != nil:
				refuse(name, "want true or false")
			case !strings.HasPrefix(u.Scheme, "rediss"):
				refuse(name, "only for URLs with TLS (rediss)")
			}
			params.Del(name) // nor that one
		case "addr":
			for i, addr := range params[name] {
				if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" || strings.ContainsRune(addr, '@') {
					refuse(name, fmt.Sprintf("number %d: want host:port", i+1))
				}
			}
		case "db":
			if !isDatabase(value) {
				refuse(name, "want the number of a database")
			}
		}
		if n, err := strconv.Atoi(value); err == nil && !inRange(name, n) {
			refuse(name, fmt.Sprintf("want a number from %d to %d", ranges[name].from, ranges[name].to))
		}
	}
	// go-redis takes 0 for "the default", which would be three retries.
	if last(params, "max_retries") == "0" {
		params.Set("max_retries", "-1")
	}
	if kind == Sentinel && last(params, "master_name") == "" {
		refuse("master_name", "missing; it is the name under which the sentinels watch the primary")
	}
	return params, errors.Join(faults...)
}

// ranges are those of numbers that would make a client panic when it is made, or
// reserve memory without bound. There are 65,536 ports.
var ranges = map[string]struct{ from, to int }{
	"pool_size":                  {0, 1 << 16},
	"min_idle_conns":             {0, 1 << 16},
	"max_idle_conns":             {0, 1 << 16},
	"max_active_conns":           {0, 1 << 16},
	"max_concurrent_dials":       {0, 1 << 16},
	"pipeline_pool_size":         {-1, 1 << 16},
	"pipeline_read_buffer_size":  {0, 1 << 26},
	"pipeline_write_buffer_size": {0, 1 << 26},
	"protocol":                   {2, 3},
	"max_retries":                {-1, 100},
	"dialer_retries":             {0, 100},
	"max_redirects":              {-1, 100},
}

func inRange(name string, n int) bool {
	r, ok := ranges[name]
	return !ok || r.from <= n && n <= r.to
}

// parse lets go-redis read u, whose scheme it knows. Its parsers stop at the
// first fault, so each parameter that one is found in is taken out, and they are
// asked again.
func (t *Target) parse(u *url.URL, query string) error {
	var faults []error
	for {
		err := t.parseOnce(u)
		if err == nil {
			break
		}
		names, fault := explain(err, query)
		faults = append(faults, fault)
		params := u.Query()
		for _, name := range names {
			params.Del(name)
		}
		rest := params.Encode()
		if rest == u.RawQuery {
			break // it is not about parameters
		}
		u.RawQuery = rest
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	if config := t.tls(); config != nil {
		config.InsecureSkipVerify, _ = flag(last(t.params, "skip_verify")) // checked
	}
	return nil
}

func (t *Target) parseOnce(u *url.URL) (err error) {
	switch t.kind {
	case Cluster:
		t.cluster, err = redis.ParseClusterURL(u.String())
	case Sentinel:
		t.failover, err = redis.ParseFailoverURL(u.String())
	default:
		t.single, err = redis.ParseURL(u.String())
	}
	return err
}

// explain returns the parameters that an error of go-redis' parsers is about,
// and what it says about them, without values. Names that go-redis does not know
// are not repeated either, because of a password with an & that is not
// percent-encoded the rest looks like one. query is the query as it was given.
func explain(err error, query string) (names []string, fault error) {
	message := strings.TrimPrefix(err.Error(), "redis: ")
	if list, ok := strings.CutPrefix(message, "unexpected option: "); ok {
		names = strings.Split(list, ", ")
		return names, fmt.Errorf("parameters: not known: number %s (an & in a value must be written as %%26)", positions(query, names))
	}
	// As in "invalid pool_size number: ...", where the name is go-redis' own.
	fields := strings.Fields(message)
	if len(fields) > 3 && fields[0] == "invalid" {
		return fields[1:2], fmt.Errorf("parameter %s: not a %s", fields[1], strings.TrimSuffix(fields[2], ":"))
	}
	return nil, errors.New("go-redis refuses the URL")
}

// positions says which parameters of a query have one of the names: "2, 5".
func positions(query string, names []string) string {
	var found []string
	for i, param := range strings.Split(query, "&") {
		name, _, _ := strings.Cut(param, "=")
		if name, err := url.QueryUnescape(name); err == nil && slices.Contains(names, name) {
			found = append(found, strconv.Itoa(i+1))
		}
	}
	return strings.Join(found, ", ")
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
