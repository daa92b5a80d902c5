// Package house holds the rules of this repository that no linter knows, as tests: which function
// may have a go statement, how large files and packages are, how wide comments are, and which
// package may import which. It has no code of its own.
package house
