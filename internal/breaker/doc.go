// Package breaker stops calls to a server that does not answer.
//
// # States
//
//   - Closed: calls go through. Failures in a row are counted; a success, or
//     a call whose outcome says nothing of the server, does not add to them.
//   - Open: [Breaker.Allow] refuses at once.
//
// Only [Breaker.Close] closes an open breaker. There is no half-open state in
// which a user's call finds out, with its own time, whether the server is back:
// whoever owns the breaker probes in the background and closes it.
//
// What a call reports that began before the breaker opened or closed is
// ignored: it says nothing of the server since.
package breaker
