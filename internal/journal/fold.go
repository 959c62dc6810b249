package journal

// foldable debts are those that a wider one of the same cache can stand for. Tags
// have no cache: they count as those of the cache without a name.
func (d *Debt) foldable() bool {
	return d.Scope == Key || d.Scope == Prefix || d.Scope == Tag && d.Name != ""
}

// folded is the wider debt that stands for d: to clear its cache, or to invalidate
// every tag.
//
// It need not wait for what d waits for. A store that runs late carries the
// cache's version of when it was sent, which the clearing has raised: what it
// stores is a miss.
func (d *Debt) folded() *Debt {
	f := &Debt{Scope: Clear, Cache: d.Cache, Since: d.Since, Last: d.Last}
	if d.Scope == Tag {
		f.Scope = Tag
	}
	return f
}

// coverLocked lets a wider debt that is owed already stand for d, and reports
// whether there is one. It is owed anew: a replay of it that is under way may have
// come before what d is about.
//
// A versioned deletion is more than a deletion, it leaves its version behind. As
// long as there is room it is kept beside the wider one.
func (j *Journal) coverLocked(d *Debt) bool {
	all := &Debt{Scope: All, Since: d.Since, Last: d.Last}
	if j.has(all.id()) {
		j.addLocked(all)
		return true
	}
	if !d.foldable() || d.Version != 0 && len(j.debts) < j.max {
		return false
	}
	wide := d.folded()
	if !j.has(wide.id()) {
		return false
	}
	j.addLocked(wide)
	return true
}

// makeRoomLocked folds debts until there is room for d, or changes d into one for
// which there is. It returns what is owed whole from now on.
//
// The cache with the most debts pays, not the others: clearing it frees the most,
// and it is the one that fails the most.
func (j *Journal) makeRoomLocked(d *Debt) (folded []string) {
	j.overflow++
	cache, share := d.Cache, 0
	if d.foldable() {
		share = j.shares[cache]
	}
	for c, n := range j.shares {
		if n > share {
			cache, share = c, n
		}
	}
	if share == 0 || share == 1 && (!d.foldable() || cache != d.Cache) {
		// All are as wide as they can be, and they are too many.
		j.foldAllLocked(d)
		return []string{""}
	}
	j.foldLocked(cache)
	if cache == d.Cache && d.foldable() {
		*d = *d.folded()
	}
	return []string{cache}
}

// foldLocked folds the debts of one cache.
func (j *Journal) foldLocked(cache string) {
	for _, scope := range [...]Scope{Key, Prefix, Tag} {
		for e := j.queues[scope].Front(); e != nil; {
			d := e.Value.(*Debt)
			next := e.Next()
			if d.Cache == cache && d.foldable() {
				j.removeLocked(e)
				j.addLocked(d.folded())
			}
			e = next
		}
	}
}

// foldAllLocked folds every debt, and d, into the one to clear everything.
func (j *Journal) foldAllLocked(d *Debt) {
	since := d.Since
	for _, e := range j.debts {
		if old := e.Value.(*Debt); old.Since.Before(since) {
			since = old.Since
		}
		j.removeLocked(e)
	}
	*d = Debt{Scope: All, Since: since, Last: d.Last}
}
