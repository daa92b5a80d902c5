package core

const (
	// MaxHoleMarkers is the largest hole that is filled with markers, in offsets.
	MaxHoleMarkers = 10_000
	// MaxRequestMarkers bounds the markers in one request, over all partitions: a broker appends
	// them one by one.
	MaxRequestMarkers = 1000
)
