// Package journal keeps the invalidations that Redis has not confirmed.
//
// An invalidation that failed, or whose outcome is unknown, is a debt. It stays
// here until a replay of it was confirmed, and while it is here its keys are
// owed: the node serves them from neither tier. A debt is always a deletion,
// never a value, because the source of truth is elsewhere and deleting is
// right in whatever order debts are paid.
//
// The journal is bounded. What does not fit is never forgotten: all debts are
// then folded into one debt per cache, to clear it whole.
//
// The zero Journal is not usable; see [New]. All methods may be called
// concurrently.
package journal
