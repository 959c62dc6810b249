// Package journal keeps the invalidations that Redis has not confirmed.
//
// An invalidation that failed, or whose outcome is unknown, is a debt. It stays
// here until a replay of it was confirmed, and while it is here its keys are
// owed: the node serves them from neither tier. A debt is always a deletion,
// never a value, because the source of truth is elsewhere and deleting is
// right in whatever order debts are paid.
//
// The journal is bounded. What does not fit is never forgotten: the debts of the
// cache that owes the most are folded into the one to clear it whole, those of
// tags into the one to invalidate every tag, and when even that is too much, all
// of them into the one to clear everything. What a wide debt covers already is no
// debt of its own.
//
// Debts are handed out in turn, so that those that cannot be paid do not hold up
// the others.
//
// The zero Journal is not usable; see [New]. All methods may be called
// concurrently.
package journal
