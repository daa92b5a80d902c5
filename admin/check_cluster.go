package admin

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"klink/admin/filter"
	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/needs"
	"klink/admin/sources"
	"klink/admin/topicconfig"
	"klink/protocol"
	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kerr"
)

// checkCluster asks the destination, or the source of a link, for what klink needs of it.
func (s *Service) checkCluster(ctx context.Context, req *linkapi.CheckClusterRequest) *linkapi.CheckClusterResponse {
	ctx, cancel := withTimeout(ctx, req.TimeoutMs)
	defer cancel()
	resp := &linkapi.CheckClusterResponse{}
	// One at a time: a check sends many requests to the cluster, and DESCRIBE is enough to ask for
	// one.
	select {
	case s.checks <- struct{}{}:
		defer func() { <-s.checks }()
	case <-ctx.Done():
		resp.ErrorCode, resp.ErrorMessage = wire(protocol.Errorf(kerr.RequestTimedOut, "this klink is still busy with another check: try again"))
		return resp
	}
	var err error
	if req.Link == nil {
		resp.ClusterID, resp.Needs, err = s.destinationNeeds(ctx)
	} else {
		resp.ClusterID, resp.Needs, err = s.sourceNeeds(ctx, *req.Link)
	}
	resp.ErrorCode, resp.ErrorMessage = wire(asError(err))
	return resp
}

// destinationNeeds also works while the state topic cannot be read: then the check says why.
func (s *Service) destinationNeeds(ctx context.Context) (cluster string, found []linkapi.ClusterNeed, err error) {
	o := needs.Options{Side: needs.Destination, Client: s.client, Session: s.cfg.Session, Topics: s.createdMirrors("")}
	select {
	case <-s.ready:
		o.Running = true
	default:
	}
	return needs.Check(ctx, o)
}

func (s *Service) sourceNeeds(ctx context.Context, link string) (cluster string, found []linkapi.ClusterNeed, err error) {
	if err := s.waitReady(ctx); err != nil {
		return "", nil, err
	}
	l := s.State().Links[link]
	if l == nil {
		return "", nil, linkMissing(link)
	}
	source, refused := sources.Connect(ctx, s.cfg.LinkFiles, link, l.Configs)
	if refused != nil {
		return "", nil, refused
	}
	defer source.Close()
	defer source.CloseAfter(ctx)()
	o := needs.Options{Side: needs.Source, Client: source.Client, Topics: s.createdMirrors(link), Largest: map[string]int64{}}
	if filters, err := filter.ParseGroups(linkconfig.Value(l.Configs, linkconfig.ConfigGroupFilters)); err == nil {
		o.Groups = filters.Match
	}
	for chunk := range slices.Chunk(o.Topics, topicconfig.AtOnce) {
		described, err := topicconfig.DescribeAll(ctx, s.admin, chunk)
		if err != nil {
			s.log.Debug("could not read the configs of mirrors for a check of their source", "link", link, "error", err)
			break
		}
		for topic, d := range described {
			if n, err := strconv.ParseInt(d.Configs["max.message.bytes"].Value, 10, 64); err == nil {
				o.Largest[topic] = n
			}
		}
	}
	return needs.Check(ctx, o)
}

// createdMirrors returns the mirrors of a link, "" = of all links, that have a topic and are not
// stopped, in the order of their names. They have the names of their source topics.
func (s *Service) createdMirrors(link string) (topics []string) {
	mirrors := s.State().Mirrors
	for _, topic := range slices.Sorted(maps.Keys(mirrors)) {
		if m := mirrors[topic]; (link == "" || m.Link == link) && m.Created && m.State != model.MirrorStopped {
			topics = append(topics, topic)
		}
	}
	return topics
}
