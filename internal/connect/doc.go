// Package connect turns a URL into a Redis client, and says of a client that was
// handed over whether the cache may stand on it.
//
// # URLs
//
//	redis://user:password@host:6379/0
//	rediss://...                                     TLS
//	unix:///path/to/redis.sock?db=0
//	redis+cluster://user:password@a:6379?addr=b:6379 any number of addr
//	redis+sentinel://s:26379?master_name=m&addr=t:26379&password=p
//
// with rediss+cluster and rediss+sentinel for TLS. Parameters are those of
// go-redis' parsers: its option fields in snake case, durations as 200ms. In a
// redis+sentinel URL the user information is that of the sentinels; the
// parameters username and password are those of the servers that hold data.
// Additionally skip_verify is understood by every URL with TLS.
//
// Options that read from replicas are refused: a replica may still have a value
// that was invalidated on its primary, and it would be kept as fresh.
//
// # What a client that is built here does
//
// Its defaults are those of a cache that must not wait: a call ends with its
// context, a try to connect is made once, and a command is sent once (a command
// whose reply was lost may have run; what then happens is decided above, not by
// a blind retry). Where the URL gives a parameter, the URL wins.
//
// # Errors
//
// An error says which part of the URL is wrong. It shows nothing that may be
// part of a password, and therefore quotes neither the URL nor go-redis' own
// messages about parts that a misplaced password can end up in.
package connect
