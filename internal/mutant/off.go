//go:build !mutants

package mutant

// On reports whether a mechanism is taken out. In this build none can be.
func On(ID) bool { return false }
