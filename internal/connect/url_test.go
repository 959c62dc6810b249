package connect_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tandemcache/tandem/internal/connect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse_knowsEveryForm(t *testing.T) {
	for raw, kind := range map[string]connect.Kind{
		"redis://localhost":                                               connect.Standalone,
		"redis://localhost:6380":                                          connect.Standalone,
		"redis://localhost:6380/":                                         connect.Standalone,
		"redis://localhost:6380/3":                                        connect.Standalone,
		"redis://[::1]:6379/0":                                            connect.Standalone,
		"redis://:p%40ss@localhost/1":                                     connect.Standalone,
		"redis://user:pass@localhost?db=2&pool_size=5":                    connect.Standalone,
		"rediss://localhost?skip_verify=true":                             connect.Standalone,
		"unix:///run/redis.sock":                                          connect.Standalone,
		"unix:///run/redis.sock?db=2":                                     connect.Standalone,
		"redis+cluster://a:1":                                             connect.Cluster,
		"redis+cluster://a:1/0?addr=b:2&addr=c:3":                         connect.Cluster,
		"rediss+cluster://u:p@a:1?skip_verify=1":                          connect.Cluster,
		"redis+sentinel://a:1?master_name=m":                              connect.Sentinel,
		"redis+sentinel://a:1/2?master_name=m&addr=b:2&password=p":        connect.Sentinel,
		"rediss+sentinel://a:1?master_name=m&skip_verify=false":           connect.Sentinel,
		"redis://localhost?context_timeout_enabled=1":                     connect.Standalone,
		"redis+cluster://a:1?route_randomly=0&context_timeout_enabled=1":  connect.Cluster,
		"redis+sentinel://a:1?master_name=m&context_timeout_enabled=true": connect.Sentinel,
	} {
		target, err := connect.Parse(raw)
		require.NoError(t, err, raw)
		assert.Equal(t, kind, target.Kind(), raw)
	}
}

func TestParse_saysWhatIsWrong(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                                     "scheme is none of",
		"localhost:6379":                                       "not a URL",
		"localhost":                                            "scheme is none of",
		"http://localhost":                                     "scheme is none of",
		"redis+ring://localhost":                               "scheme is none of",
		"unix+cluster:///s":                                    "scheme is none of",
		"redis://localhost:port":                               "not a URL",
		"redis:localhost":                                      "not a URL",
		"redis://local host":                                   "not a URL",
		"redis://localhost/x":                                  "path: want /n",
		"redis://localhost/-1":                                 "path: want /n",
		"redis://localhost/1/2":                                "path: want /n",
		"redis://localhost/0#1":                                "a # begins a fragment",
		"redis://:123/word@localhost":                          "an @ stands after the host",
		"redis://:123?word@localhost":                          "an @ stands after the host",
		"redis://:123#word@localhost":                          "an @ stands after the host",
		"redis://localhost?a;b":                                "parameters: not of the form",
		"redis+cluster://localhost/1":                          "a cluster has only database 0",
		"unix://host/run/redis.sock":                           "host: unix:// takes an absolute path",
		"unix://":                                              "path: unix:// needs",
		"unix:///":                                             "path: unix:// needs",
		"redis://localhost?db=x":                               "parameter db: want the number",
		"redis://localhost?db=-1":                              "parameter db: want the number",
		"redis://localhost?pool_size=99999999999":              "parameter pool_size: want a number from 0 to 65536",
		"redis://localhost?pool_size=-1":                       "parameter pool_size: want a number from 0",
		"redis://localhost?protocol=4":                         "parameter protocol: want a number from 2 to 3",
		"redis://localhost?pool_size=many":                     "parameter pool_size: not a number",
		"redis://localhost?read_timeout=soon":                  "parameter read_timeout: not a duration",
		"redis://localhost?pool_fifo=perhaps":                  "parameter pool_fifo: not a boolean",
		"redis://localhost?pool_size=1&color=x":                "not known: number 2",
		"redis://localhost?read_only=1":                        "parameter read_only: reads must come from primaries",
		"redis://localhost?read_only=":                         "not known: number 1",
		"redis+cluster://a:1?route_randomly=1":                 "parameter route_randomly: reads must come",
		"redis+cluster://a:1?route_by_latency=maybe":           "parameter route_by_latency: reads must come",
		"redis+cluster://a:1?addr=b":                           "parameter addr: number 1: want host:port",
		"redis+cluster://a:1?addr=b:1&addr=:2":                 "parameter addr: number 2: want host:port",
		"redis+sentinel://a:1":                                 "parameter master_name: missing",
		"redis+sentinel://a:1?master_name=m&replica_only=true": "parameter replica_only: reads must come",
		"redis+sentinel://a:1?master_name=m&use_disconnected_replicas=1":  "parameter use_disconnected_replicas: reads",
		"redis+sentinel://a:1?master_name=m&context_timeout_enabled=0":    "parameter context_timeout_enabled: it is on",
		"redis+sentinel://a:1?master_name=m&context_timeout_enabled=some": "parameter context_timeout_enabled: it is on",
		"redis://localhost?skip_verify=true":                              "parameter skip_verify: only for URLs with TLS",
		"rediss://localhost?skip_verify=please":                           "parameter skip_verify: want true or false",
	} {
		_, err := connect.Parse(raw)
		require.Error(t, err, raw)
		assert.ErrorContains(t, err, want, raw)
		assert.True(t, strings.HasPrefix(err.Error(), "connect: "), err)
	}
}

func TestParse_namesAllFaultsAtOnce(t *testing.T) {
	for raw, want := range map[string][]string{
		"redis://localhost/x?pool_size=a&read_timeout=b&pool_fifo=c&db=d&read_only=1&hue=1&skip_verify=1&tint=2&context_timeout_enabled=0": {
			"path", "pool_size", "read_timeout", "pool_fifo", "parameter db", "read_only", "number 6, 8", "skip_verify", "context_timeout_enabled",
		},
		"redis+cluster://localhost/7?addr=x&addr=y&route_randomly=1&pool_size=a&hue=1": {
			"path", "number 1: want", "number 2: want", "route_randomly", "pool_size", "known: number 5",
		},
		"redis+sentinel://localhost/x?db=y&pool_size=a&hue=1&addr=x&dial_timeout=z": {
			"path", "parameter db", "pool_size", "known: number 3", "addr: number 1", "dial_timeout", "master_name",
		},
		"unix://host?db=x&hue=1&pool_size=": {"host", "parameter db", "known: number 2"},
	} {
		_, err := connect.Parse(raw)
		require.Error(t, err)
		for _, fault := range want {
			assert.ErrorContains(t, err, fault, raw)
		}
		assert.Len(t, strings.Split(err.Error(), "\n"), len(want), "%s: %v", raw, err)
	}
}

// Passwords with characters that end a part of a URL turn up in other parts.
// Nothing of the URL may be repeated that could be one.
func TestParse_keepsSecrets(t *testing.T) {
	const secret = "hunter2"
	for _, raw := range []string{
		"redis://user:" + secret + "@local host",
		"redis://:" + secret + "@localhost:port",
		"redis://:pass/" + secret + "@localhost",
		"redis://:pass?" + secret + "@localhost",
		"redis://:pass#" + secret + "@localhost",
		"redis://:pass%" + secret + "@localhost",
		"redis://:pass:" + secret,
		"redis://localhost/" + secret,
		"redis://localhost#" + secret,
		"redis://localhost?" + secret,
		"redis://localhost?" + secret + "=1",
		"redis://localhost?a;" + secret,
		"redis://localhost?db=" + secret,
		"redis://localhost?password=" + secret,
		"redis://localhost?pool_size=" + secret,
		"redis://localhost?read_timeout=" + secret,
		"redis://localhost?pool_fifo=" + secret,
		"redis://localhost?read_only=" + secret,
		"redis+cluster://localhost?addr=" + secret,
		"redis+cluster://localhost?addr=x:" + secret + "@y:1",
		"redis+sentinel://localhost?password=" + secret,
		"redis+sentinel://localhost?master_name=m&password=pass&" + secret,
		"redis+sentinel://localhost?master_name=m&password=pass&" + secret + "=x",
		"redis+sentinel://localhost?master_name=m&password=pass#" + secret,
		"rediss://localhost?skip_verify=" + secret,
		"unix://" + secret,
		"unix://" + secret + "/path",
		secret + "://localhost",
		"redis:" + secret + "@localhost",
		secret,
	} {
		_, err := connect.Parse(raw)
		require.Error(t, err, raw)
		assert.NotContains(t, err.Error(), secret, raw)
	}
}

func TestKind_String(t *testing.T) {
	assert.Equal(t, "standalone", connect.Standalone.String())
	assert.Equal(t, "cluster", connect.Cluster.String())
	assert.Equal(t, "sentinel", connect.Sentinel.String())
	assert.Equal(t, "unknown", connect.Kind(0).String())
}

// Whatever a URL is made of, an error repeats no part of it.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"redis://:hunter2@localhost:1/2?db=hunter2", "redis+cluster://hunter2?addr=hunter2:1&x=hunter2",
		"redis+sentinel://a?master_name=hunter2&password=b&hunter2", "rediss://a?skip_verify=hunter2", "unix://hunter2",
		"hunter2://a#hunter2", "redis://a?pool_size=hunter2&hunter2=pool_size", "redis://a?invalid=hunter2%20number",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		target, err := connect.Parse(raw)
		if err != nil {
			if strings.Contains(raw, "hunter2") && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q: %v", raw, err)
			}
			return
		}
		client, err := target.Open(1e9)
		if err != nil {
			t.Fatalf("%q: parsed, but does not open: %v", raw, err)
		}
		if _, err := connect.Inspect(client); err != nil {
			t.Errorf("%q: made a client that is not accepted: %v", raw, err)
		}
		_ = client.Close()
	})
}
