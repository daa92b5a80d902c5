package needs

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// untold is what a broker sends if it does not tell the operations that the user is allowed.
const untold = math.MinInt32

// topicRights is what the cluster says of a topic.
type topicRights struct {
	operations int32 // a bit for each operation (KIP-430), or untold
	replicas   int   // the fewest of any partition
	err        error
}

// learnTopics asks for the rights on klink's own topics and on Options.Topics. Nothing is created.
func (a *asker) learnTopics() {
	names := slices.Clone(a.Topics)
	if a.Side == Destination {
		names = append(names, stateName, tasksName)
	}
	if len(names) == 0 {
		names = a.someTopics()
		a.Topics = names
	}
	if len(names) == 0 {
		return
	}
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation, req.IncludeTopicAuthorizedOperations = false, true
	for i := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &names[i]
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(a.ctx, a.Client)
	if err != nil {
		for _, name := range names {
			a.topics[name] = topicRights{operations: untold, err: err}
		}
		return
	}
	for _, t := range resp.Topics {
		if t.Topic == nil {
			continue
		}
		r := topicRights{operations: t.AuthorizedOperations, err: kerr.ErrorForCode(t.ErrorCode)}
		for i, p := range t.Partitions {
			if i == 0 || len(p.Replicas) < r.replicas {
				r.replicas = len(p.Replicas)
			}
		}
		a.topics[*t.Topic] = r
	}
}

// someTopics returns topics that the user may describe.
func (a *asker) someTopics() (names []string) {
	listed, err := a.admin.ListTopics(a.ctx)
	if err != nil {
		return nil
	}
	return listed.Names()[:min(len(listed), maxTopics)]
}

// anyTopic returns a topic that exists, "" if none is known.
func (a *asker) anyTopic() string {
	for _, name := range append([]string{stateName}, a.Topics...) {
		if r, asked := a.topics[name]; asked && r.err == nil {
			return name
		}
	}
	if some := a.someTopics(); len(some) > 0 {
		return some[0]
	}
	return ""
}

func (a *asker) askRight(r right) verdict {
	switch {
	case r.on.kind == kmsg.ACLResourceTypeTopic && r.on.name != "":
		return a.onTopic(r, r.on.name)
	case r.on.kind == kmsg.ACLResourceTypeTopic:
		return a.onTopics(r)
	case r.on.kind == kmsg.ACLResourceTypeGroup && r.on.name != "":
		return a.onGroups(r, []string{r.on.name})
	case r.on.kind == kmsg.ACLResourceTypeGroup:
		return a.onManyGroups(r)
	case r.on.kind == kmsg.ACLResourceTypeTransactionalId:
		return a.onTransactionalID(r)
	}
	return a.onCluster(r)
}

// allows judges the operations that a broker has told.
func (r right) allows(operations int32) verdict {
	switch {
	case operations == untold:
		return unknown("the brokers do not tell what the user may do")
	case r.or != 0 && operations&(1<<r.or) == 0 && operations&(1<<r.operation) != 0:
		return ok("granted is %s; older brokers ask for %s", operationName(r.operation), operationName(r.or))
	case operations&(1<<r.operation) != 0, r.or != 0 && operations&(1<<r.or) != 0:
		return ok("")
	}
	need := operationName(r.operation)
	if r.or != 0 {
		need += " or " + operationName(r.or)
	}
	return denied("grant %s", need)
}

func (a *asker) onTopic(r right, name string) verdict {
	if v, cannot := a.notOffered(kmsg.Metadata, 8); cannot {
		return v
	}
	t, asked := a.topics[name]
	switch {
	case !asked:
		return unknown("no answer for topic %s", name)
	case errors.Is(t.err, kerr.TopicAuthorizationFailed) && r.operation == kmsg.ACLOperationDescribe:
		return denied("grant Describe on topic %s", name)
	case errors.Is(t.err, kerr.TopicAuthorizationFailed):
		return unknown("the brokers do not tell without Describe on topic %s", name)
	case t.operations == untold && errors.Is(t.err, kerr.UnknownTopicOrPartition):
		return unknown("there is no topic %s yet", name)
	case t.operations == untold && t.err != nil:
		return unknown("could not ask about topic %s: %s", name, t.err)
	}
	v := r.allows(t.operations)
	switch {
	case v.state != linkapi.NeedDenied:
	case r.operation == kmsg.ACLOperationCreate && r.on.name != "" && t.err == nil:
		return ok("not granted, and not needed any more: the topic is there")
	default:
		v.detail += " on topic " + name
	}
	return v
}

// onTopics is onTopic for all of Options.Topics. One that is denied counts more than others.
func (a *asker) onTopics(r right) verdict {
	if len(a.Topics) == 0 {
		return unknown("there is no such topic yet")
	}
	var worst verdict
	bad := 0
	for _, name := range a.Topics {
		v := a.onTopic(r, name)
		if v.state == linkapi.NeedOK {
			continue
		}
		if bad++; worst.state == "" || v.state == linkapi.NeedDenied && worst.state != v.state {
			worst = v
		}
	}
	if bad == 0 {
		return ok("%d topics asked", len(a.Topics))
	}
	worst.detail += fmt.Sprintf(" (%d of %d topics)", bad, len(a.Topics))
	return worst
}

// onManyGroups asks about the groups that the user sees.
func (a *asker) onManyGroups(r right) verdict {
	if v, cannot := a.notOffered(kmsg.ListGroups, 0); cannot {
		return v
	}
	listed, err := a.admin.ListGroups(a.ctx)
	if err != nil {
		return unknown("could not list groups: %s", err)
	}
	var names []string
	for _, name := range listed.Groups() {
		if name != tasksName && (a.Groups == nil || a.Groups(name)) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return unknown("the user sees no group yet whose offsets klink would sync")
	}
	return a.onGroups(r, names[:min(len(names), maxTopics)])
}

func (a *asker) onGroups(r right, names []string) verdict {
	if v, cannot := a.notOffered(kmsg.DescribeGroups, 3); cannot {
		return v
	}
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups, req.IncludeAuthorizedOperations = names, true
	var worst verdict
	bad := 0
	for _, shard := range a.Client.RequestSharded(a.ctx, req) {
		if shard.Err != nil {
			return of(shard.Err)
		}
		for _, g := range shard.Resp.(*kmsg.DescribeGroupsResponse).Groups {
			v := r.allows(g.AuthorizedOperations)
			switch err := kerr.ErrorForCode(g.ErrorCode); {
			case errors.Is(err, kerr.GroupAuthorizationFailed):
				v = denied("grant Describe on group %s", g.Group)
			case errors.Is(err, kerr.GroupIDNotFound) && g.AuthorizedOperations == untold && r.operation == kmsg.ACLOperationDescribe:
				v = ok("")
			case err != nil && g.AuthorizedOperations == untold:
				v = unknown("group %s: %s", g.Group, err)
			case v.state == linkapi.NeedDenied:
				v.detail += " on group " + g.Group
			}
			if v.state == linkapi.NeedOK {
				continue
			}
			if bad++; worst.state == "" || v.state == linkapi.NeedDenied && worst.state != v.state {
				worst = v
			}
		}
	}
	if bad > 0 && len(names) > 1 {
		worst.detail += fmt.Sprintf(" (%d of %d groups)", bad, len(names))
	}
	if bad > 0 {
		return worst
	}
	return ok("%d groups asked", len(names))
}

func (a *asker) onTransactionalID(r right) verdict {
	if r.operation != kmsg.ACLOperationDescribe {
		return unknown("it cannot be asked without fencing the klink that runs")
	}
	if v, cannot := a.notOffered(kmsg.DescribeTransactions, 0); cannot {
		return v
	}
	return of(a.describeTransaction(r.on.name))
}

func (a *asker) onCluster(r right) verdict {
	if _, cannot := a.notOffered(kmsg.DescribeCluster, 0); !cannot {
		req := kmsg.NewPtrDescribeClusterRequest()
		req.IncludeClusterAuthorizedOperations = true
		resp, err := req.RequestWith(a.ctx, a.Client)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err != nil {
			return of(err)
		}
		return r.allows(resp.ClusterAuthorizedOperations)
	}
	// Metadata told it from v8 to v10.
	if s, offered := a.versions[int16(kmsg.Metadata)]; !offered || s.max < 8 || s.max > 10 {
		return unknown("the brokers cannot be asked: they do not offer DescribeCluster")
	}
	req := kmsg.NewPtrMetadataRequest()
	req.Topics, req.IncludeClusterAuthorizedOperations = []kmsg.MetadataRequestTopic{}, true
	resp, err := req.RequestWith(a.ctx, a.Client)
	if err != nil {
		return of(err)
	}
	return r.allows(resp.AuthorizedOperations)
}
