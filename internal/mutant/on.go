//go:build mutants

package mutant

import (
	"os"
	"slices"
)

// active is the mechanism that is missing in this process, none if empty.
var active = chosen()

func chosen() ID {
	id := ID(os.Getenv("TANDEM_MUTANT"))
	if id != "" && !slices.Contains(All(), id) {
		panic("mutant: TANDEM_MUTANT names no mutant: " + string(id))
	}
	return id
}

// On reports whether a mechanism is taken out.
func On(id ID) bool { return id == active }
