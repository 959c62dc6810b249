package l2

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// A mechanism that is not found in its part of a script would be taken out by nobody.
func TestScriptMutants_areInTheirScripts(t *testing.T) {
	for _, m := range scriptMutants() {
		assert.Equal(t, 1, strings.Count(m.part, m.mechanism), "%s: %q", m.id, m.mechanism)
	}
}
