// Package layout holds the shape of the house as rules that tests enforce: who
// may import whom, what the root of the repository holds, and how a file looks.
//
// The rules are tables, each line with its reason. Whoever needs an exception
// argues it there. The checks work on values, so that their own tests can break
// each rule on made-up input; only the tests of the house look at the disk.
package layout
