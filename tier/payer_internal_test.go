package tier

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// A prefix that a server refused at once is tried again as soon as a key is; one
// for which Redis was scanned in vain is not.
func TestLane_rest(t *testing.T) {
	keys, wide := &lane{most: payMost}, &lane{most: payWide}
	assert.Equal(t, payMost, keys.rest(0))
	assert.Equal(t, payMost, keys.rest(time.Minute))
	assert.Equal(t, payMost, wide.rest(time.Millisecond))
	assert.Equal(t, payRatio*100*time.Millisecond, wide.rest(100*time.Millisecond))
	assert.Equal(t, payWide, wide.rest(time.Minute))
}
