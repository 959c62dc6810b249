// Package ghl is the ready catalog of keys of the application that Tandem
// began with: users, credits, workflows, sessions, leads and rate limits, all
// under "ghl".
//
// Open the node with Prefix [Namespace], give each cache the Name of its entry,
// and call it with the entry's ID; what then stands in Redis is the entry's Key:
//
//	entry               cache       key in Redis                   pattern
//	User                user        ghl:user:<id>                  ghl:user:*
//	UserCredits         credits     ghl:credits:<user>             ghl:credits:*
//	Workflow            workflow    ghl:workflow:<id>              ghl:workflow:*
//	WorkflowDefinition  workflow    ghl:workflow:definition:<id>   ghl:workflow:definition:*
//	Session             session     ghl:session:<id>               ghl:session:*
//	Leads               leads       ghl:leads:<id>                 ghl:leads:*
//	RateLimit           rate        ghl:rate:<user>:<endpoint>     ghl:rate:*
//
// # Workflows and their definitions
//
// A definition stands beside its workflow, so that dropping "workflow" drops
// both. They cannot collide: the key of a workflow has exactly one part after
// "ghl:workflow", since a ':' in an id is escaped, and that of a definition has
// two. Even a workflow with the id "definition" or "definition:7" is a key of
// its own.
//
// Two things follow from sharing a cache. The value type of the cache "workflow"
// is one, so it must hold either; a program that wants two types opens a cache
// of another name and uses the ID of [WorkflowDefinition] there, and then drops
// the two apart. And deleting the prefix "definition" of the cache takes the
// workflow whose id is "definition", if there is one, as well.
//
// An entry is a value and costs a few nanoseconds to make; all may be used
// concurrently.
package ghl
