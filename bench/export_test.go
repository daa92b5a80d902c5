package bench

// RecordBatch makes a v2 record batch of exactly size bytes, a multiple of 1 KiB, in records of
// about a kilobyte that nothing can compress. It is for the tests of package bench_test.
func RecordBatch(size int) []byte { return recordBatch(size, 1) }
