//go:build race

package proxy

// underRace: the race detector multiplies the memory of a process, so only the heap is compared
// with a budget.
const underRace = true
