package ghl_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/keys"
	"github.com/tandemcache/tandem/keys/ghl"
)

// The seven builders: the name of the cache, the id in it, the key in Redis, the
// pattern of the kind.
func TestCatalogue(t *testing.T) {
	rate := ghl.RateLimit()
	for _, tt := range []struct {
		name string
		kind keys.Kind
		id   string
		key  string
		want [4]string
	}{
		{"User", ghl.User().Kind, ghl.User().ID("123"), ghl.User().Key("123"),
			[4]string{"user", "123", "ghl:user:123", "ghl:user:*"}},
		{"UserCredits", ghl.UserCredits().Kind, ghl.UserCredits().ID("123"), ghl.UserCredits().Key("123"),
			[4]string{"credits", "123", "ghl:credits:123", "ghl:credits:*"}},
		{"Workflow", ghl.Workflow().Kind, ghl.Workflow().ID("w1"), ghl.Workflow().Key("w1"),
			[4]string{"workflow", "w1", "ghl:workflow:w1", "ghl:workflow:*"}},
		{"WorkflowDefinition", ghl.WorkflowDefinition().Kind, ghl.WorkflowDefinition().ID("w1"), ghl.WorkflowDefinition().Key("w1"),
			[4]string{"workflow", "definition:w1", "ghl:workflow:definition:w1", "ghl:workflow:definition:*"}},
		{"Session", ghl.Session().Kind, ghl.Session().ID("s1"), ghl.Session().Key("s1"),
			[4]string{"session", "s1", "ghl:session:s1", "ghl:session:*"}},
		{"Leads", ghl.Leads().Kind, ghl.Leads().ID("l1"), ghl.Leads().Key("l1"),
			[4]string{"leads", "l1", "ghl:leads:l1", "ghl:leads:*"}},
		{"RateLimit", rate.Kind, rate.ID("123", "/v1/leads"), rate.Key("123", "/v1/leads"),
			[4]string{"rate", "123:/v1/leads", "ghl:rate:123:/v1/leads", "ghl:rate:*"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, [4]string{tt.kind.Name(), tt.id, tt.key, tt.kind.Pattern()})
			assert.Equal(t, tt.key, strings.Join([]string{ghl.Namespace, tt.kind.Name(), tt.id}, ":"),
				"the key in Redis is prefix:name:id")
			assert.True(t, strings.HasPrefix(tt.key, tt.kind.Prefix()+":"))
			require.NoError(t, keys.Check(tt.key))
		})
	}
}

// The six prefixes that the application's operators know.
func TestCatalogue_prefixes(t *testing.T) {
	patterns := map[string]bool{}
	for _, k := range []keys.Kind{
		ghl.User().Kind, ghl.UserCredits().Kind, ghl.Workflow().Kind,
		ghl.Session().Kind, ghl.Leads().Kind, ghl.RateLimit().Kind,
	} {
		patterns[k.Pattern()] = true
	}
	assert.Equal(t, map[string]bool{
		"ghl:user:*": true, "ghl:credits:*": true, "ghl:workflow:*": true,
		"ghl:session:*": true, "ghl:rate:*": true, "ghl:leads:*": true,
	}, patterns)
	assert.True(t, strings.HasPrefix(ghl.WorkflowDefinition().Prefix(), ghl.Workflow().Prefix()+":"),
		"dropping the workflows drops their definitions")
}

func FuzzWorkflow_neverCollidesWithADefinition(f *testing.F) {
	for _, s := range []string{"", "definition", "definition:7", "definition%3A7", "%-", ":", "7"} {
		f.Add(s, "7")
		f.Add("definition:"+s, s)
	}
	f.Fuzz(func(t *testing.T, workflow, definition string) {
		require.NotEqual(t, ghl.Workflow().Key(workflow), ghl.WorkflowDefinition().Key(definition))
		require.NotEqual(t, ghl.Workflow().ID(workflow), ghl.WorkflowDefinition().ID(definition))
	})
}

func Example() {
	fmt.Println(ghl.User().Name(), ghl.User().ID("123"), ghl.User().Key("123"))
	fmt.Println(ghl.WorkflowDefinition().Key("w1"))
	fmt.Println(ghl.RateLimit().Key("123", "/v1/leads"))
	fmt.Println(ghl.RateLimit().Prefix1("123")) // for DeletePrefix: all endpoints of a user
	// Output:
	// user 123 ghl:user:123
	// ghl:workflow:definition:w1
	// ghl:rate:123:/v1/leads
	// 123
}
