// Package retry has what waiting for another attempt needs. It imports nothing of klink.
package retry
