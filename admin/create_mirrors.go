package admin

import (
	"context"

	"klink/internal/parallel"
	"klink/protocol"
	"klink/protocol/linkapi"
	"klink/router"

	"github.com/twmb/franz-go/pkg/kerr"
)

func (s *Service) createMirrors(ctx context.Context, req *linkapi.CreateMirrorsRequest) *linkapi.CreateMirrorsResponse {
	ctx, cancel := withTimeout(ctx, req.TimeoutMs)
	defer cancel()
	resp := &linkapi.CreateMirrorsResponse{Results: make([]linkapi.NameResult, len(req.Mirrors))}
	named := map[string]int{}
	for _, m := range req.Mirrors {
		named[m.Topic]++
	}
	parallel.ForEach(len(req.Mirrors), func(i int) {
		m, result := req.Mirrors[i], &resp.Results[i]
		result.Name = m.Topic
		err := protocol.Errorf(kerr.InvalidRequest, "topic '%.260s' is named more than once in the request", m.Topic)
		if named[m.Topic] == 1 {
			spec := router.MirrorSpec{
				Topic: m.Topic, Link: m.Link, SourceTopic: m.SourceTopic, NumPartitions: m.NumPartitions,
				ReplicationFactor: m.ReplicationFactor, Configs: map[string]*string{}, ValidateOnly: req.ValidateOnly,
			}
			for _, c := range m.Configs {
				spec.Configs[c.Name] = c.Value
			}
			err = s.createMirror(ctx, spec)
		}
		result.ErrorCode, result.ErrorMessage = wire(err)
	})
	return resp
}

// CreateMirror implements router.Control.
func (s *Service) CreateMirror(ctx context.Context, spec router.MirrorSpec) *protocol.Error {
	ctx, cancel := withTimeout(ctx, 0)
	defer cancel()
	return s.createMirror(ctx, spec)
}
