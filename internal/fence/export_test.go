package fence

// SetEvents makes the count of events n, as if so many had happened that were not seen.
func (f *Fence) SetEvents(n uint64) { f.events.Store(n) }
