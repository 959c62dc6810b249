package deadline

// Slots returns how many timers run.
func (g *Group) Slots() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.slots)
}
