package model

// The functions here are the scripts of package l2, each atomic.

func (r *record) live() bool { return r.kind >= reader && !r.over }

// open reports whether a writer's bracket stands.
func (r *record) open() bool {
	return r.live() && (r.kind == writer || r.kind == hold && r.writers > 0)
}

func (r *record) holds(o int) bool { return r.token == uint8(o)+1 }

// disturb makes an open bracket one in which nobody stores.
func (r *record) disturb() {
	w := r.writers
	if r.kind == writer {
		w = 1
	}
	*r = record{kind: hold, version: none, writers: w, over: r.over}
}

func (r *record) clear() { *r = record{version: none} }

// remove is the delete script.
func (w *world) remove(r *record) {
	switch {
	case r.open() && !w.off.NoBracketKept:
		r.disturb()
	case w.off.DeleteSparesLease && r.kind == reader:
		// a scan that looks for values alone
	default:
		r.clear()
	}
}

// set is the set script; it reports whether the value was stored.
func (w *world) set(r *record, version int8, cache uint8) bool {
	if r.open() && !w.off.NoBracketKept {
		r.disturb()
		return false
	}
	*r = record{kind: value, version: version, cache: cache}
	return true
}

// lease is the lease script for a reader that saw no value.
func (w *world) lease(r *record, o int, cache uint8) leaseAnswer {
	switch {
	case r.kind == value && r.cache == cache:
		return leaseChanged
	case r.live() && r.kind == reader && !r.holds(o):
		return leaseBusy
	case r.live() && (r.kind == writer || r.kind == hold):
		return leaseBarred
	}
	*r = record{kind: reader, version: none, token: uint8(o) + 1}
	return leaseGranted
}

type leaseAnswer uint8

const (
	leaseGranted leaseAnswer = iota
	leaseBusy
	leaseBarred
	leaseChanged
)

// fill is the fill script.
func (w *world) fill(r *record, o int, version int8, cache uint8) bool {
	if !w.off.NoLease && (!r.holds(o) || r.kind == writer) {
		return false
	}
	*r = record{kind: value, version: version, cache: cache}
	return true
}

// begin opens a bracket; sole says that no other is open.
func (w *world) begin(r *record, o int) (sole bool) {
	if r.open() {
		n := r.writers
		if r.kind == writer {
			n = 1
		}
		*r = record{kind: hold, version: none, writers: n + 1}
		return false
	}
	*r = record{kind: writer, version: none, token: uint8(o) + 1, writers: 1}
	return true
}

// end closes a bracket and stores the value of a sole, undisturbed writer.
func (w *world) end(r *record, o int, version int8, cache uint8) (stored bool) {
	switch {
	case r.kind == writer && r.holds(o):
		*r = record{kind: value, version: version, cache: cache}
		return true
	case r.kind == hold && r.writers > 1:
		r.writers--
	case w.off.EndKeepsOthers && r.live() && r.kind == writer:
		// another writer's undisturbed bracket is left alone
	case r.live() && r.kind == writer:
		r.disturb()
	default:
		r.clear()
	}
	return false
}
