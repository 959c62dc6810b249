package l2

// limited parses what a bounded read of key returned: at most limit+maxMeta+1
// bytes of it. More payload than limit is StateTooLarge.
func limited(b []byte, key string, limit int) Reply {
	if len(b) > limit+maxMeta {
		// The body is cut off; the head tells whose it is.
		var rep Reply
		if rep.State = parseHead(b, &rep.Record); rep.State != StateNewer {
			rep.State = StateTooLarge
		}
		return rep
	}
	rep := Parse(b, key)
	if rep.State == StateRecord && len(rep.Record.Payload) > limit {
		rep.State = StateTooLarge
		rep.Record.Payload, rep.Record.Tags = nil, nil
	}
	return rep
}

// version is the record version that the lease depends on, 0 for none.
func (s Seen) version() uint64 {
	switch s.State {
	case StateRecord, StateCorrupt, StateTooLarge:
		return s.Version
	}
	return 0
}

// replaceable reports whether a lease may take the place of something that is
// not ours. After a record was seen it may not: what is there now is news.
func (s Seen) replaceable() bool {
	switch s.State {
	case StateAbsent, StateForeign:
		return true
	case StateTooLarge:
		return s.Version == 0
	}
	return false
}
