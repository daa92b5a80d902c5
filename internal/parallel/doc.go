// Package parallel does many things at a time, but not too many.
//
// ForEach is all of it. It waits for the goroutines that it starts, and takes no lock. The package
// imports nothing of klink.
package parallel
