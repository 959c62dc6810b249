package ghl

import "github.com/tandemcache/tandem/keys"

// Namespace is what every key begins with: the Prefix of the node.
const Namespace = "ghl"

// User is the profile of a user, by user id.
func User() keys.Kind1[string] { return one("user", "") }

// UserCredits is the credit balance of a user, by user id.
func UserCredits() keys.Kind1[string] { return one("credits", "") }

// Workflow is the state of a workflow, by workflow id.
func Workflow() keys.Kind1[string] { return one("workflow", "") }

// WorkflowDefinition is the definition of a workflow, by workflow id. It shares
// the cache of [Workflow]; the package comment says why they cannot collide.
func WorkflowDefinition() keys.Kind1[string] { return one("workflow", "definition") }

// Session is a session, by session id.
func Session() keys.Kind1[string] { return one("session", "") }

// Leads is a list of leads, by the id of its owner.
func Leads() keys.Kind1[string] { return one("leads", "") }

// RateLimit is the number of calls of a user to an endpoint, for a counter.
// Prefix1 of the kind covers all endpoints of a user.
func RateLimit() keys.Kind2[string, string] {
	return keys.Must(keys.Of2[string, string](keys.Spec{Namespace: Namespace, Name: "rate"}))
}

// one cannot panic: the names are constants, and a test makes every entry.
func one(name, segment string) keys.Kind1[string] {
	return keys.Must(keys.Of1[string](keys.Spec{Namespace: Namespace, Name: name, Segment: segment}))
}
