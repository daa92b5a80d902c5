package core

// AlignReason names why a partition is not aligned, for programs.
type AlignReason string

const (
	// AlignTooFar: more offsets than offset.alignment.max lie below the source's log start.
	AlignTooFar AlignReason = "TOO_MANY_OFFSETS"
	// AlignNotPermitted: klink's principal lacks a permission; its name is in the message.
	AlignNotPermitted AlignReason = "NOT_PERMITTED"
	// AlignPolicy: the topic's cleanup policy, or a policy of the destination, forbids it.
	AlignPolicy AlignReason = "POLICY_VIOLATION"
	// AlignUnsupported: the destination does not know the request, the codec or the format.
	AlignUnsupported AlignReason = "UNSUPPORTED"
	// AlignHoleTooLarge: a hole has more offsets than klink fills with markers.
	AlignHoleTooLarge AlignReason = "HOLE_TOO_LARGE"
	// AlignOvershot: fillers were appended twice, so that the log ends beyond the source's log
	// start.
	AlignOvershot AlignReason = "OVERSHOT"
	// AlignRefused: the destination refuses for another reason, which is in the message.
	AlignRefused AlignReason = "REFUSED"
)
