package needs

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Side says as what klink needs a cluster.
type Side string

// The sides.
const (
	Destination Side = "destination"
	Source      Side = "source"
)

// The kinds of needs.
const (
	KindAPI   = "api"
	KindRight = "right"
	KindLimit = "limit"
)

// Need is something that klink needs of a cluster. Exactly one of api, right and limit is set, by
// Kind.
type Need struct {
	Kind string
	Name string
	// Use is what klink needs it for, Lost what is lost without it.
	Use, Lost string
	// Required: klink cannot mirror without it.
	Required bool

	// proven: a klink that runs has it.
	proven bool

	api   api
	right right
	limit limit
}

// api is an API that the brokers have to offer.
type api struct {
	key   kmsg.Key
	least int16 // the version that klink needs at least
}

// right is an operation on a resource that the user has to be allowed.
type right struct {
	on        resource
	operation kmsg.ACLOperation
	or        kmsg.ACLOperation // another operation that does as well, at all brokers; 0 = none
}

// resource is what rights are on.
type resource struct {
	kind kmsg.ACLResourceType
	name string // "" = many: the mirrors, the topics to mirror, the groups
	// short is the resource in the name of a need, doc is it in docs/operations.md.
	short, doc string
}

// limit looks whether a limit of the cluster leaves room for what klink needs.
type limit func(*asker) verdict

// verdict is what was found out about a need.
type verdict struct {
	state, detail string
}

// Table returns the needs of a side, in the order in which people read them. The caller owns the
// slice.
func Table(side Side) []Need {
	if side == Source {
		return source()
	}
	return destination()
}

func needsAPI(key kmsg.Key, least int16, required bool, use, lost string) Need {
	return Need{Kind: KindAPI, Name: key.Name(), Use: use, Lost: lost, Required: required, api: api{key, least}}
}

func needsRight(on resource, operation kmsg.ACLOperation, required bool, use, lost string) Need {
	return Need{
		Kind: KindRight, Name: on.short + ": " + operationName(operation), Use: use, Lost: lost, Required: required,
		right: right{on: on, operation: operation},
	}
}

func needsLimit(name string, required bool, use, lost string, l limit) Need {
	return Need{Kind: KindLimit, Name: name, Use: use, Lost: lost, Required: required, limit: l}
}

// operationName writes an operation as docs/operations.md does: DescribeConfigs.
func operationName(op kmsg.ACLOperation) string {
	var name strings.Builder
	for word := range strings.SplitSeq(op.String(), "_") {
		name.WriteString(word[:1] + strings.ToLower(word[1:]))
	}
	return name.String()
}
