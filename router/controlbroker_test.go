package router

import (
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// serve is a broker that succeeds at everything, unless the test says otherwise.
func (w *controlWorld) serve(request []byte) []byte {
	h, err := protocol.ParseRequestHeader(request)
	if err != nil || h.Body < 0 {
		return nil
	}
	req := kmsg.RequestForKey(h.Key)
	req.SetVersion(h.Version)
	if req.ReadFrom(request[h.Body:]) != nil {
		return nil
	}
	resp := req.ResponseKind()
	w.respond(req, resp)
	return protocol.AppendResponse(nil, h, resp)
}

func (w *controlWorld) respond(req kmsg.Request, resp kmsg.Response) {
	code := func(name string) (int16, *string) {
		if err := w.broker[name]; err != nil {
			return err.Code, kmsg.StringPtr("says the broker")
		}
		return 0, nil
	}
	switch req := req.(type) {
	case *kmsg.MetadataRequest:
		resp.(*kmsg.MetadataResponse).AuthorizedOperations = w.operations
	case *kmsg.CreateTopicsRequest:
		resp := resp.(*kmsg.CreateTopicsResponse)
		for _, t := range req.Topics {
			r := kmsg.NewCreateTopicsResponseTopic()
			r.Topic, r.TopicID = t.Topic, [16]byte{0xbb}
			r.NumPartitions, r.ReplicationFactor, r.Configs = 1, 1, []kmsg.CreateTopicsResponseTopicConfig{}
			r.ErrorCode, r.ErrorMessage = code(t.Topic)
			resp.Topics = append(resp.Topics, r)
		}
	case *kmsg.DeleteTopicsRequest:
		resp := resp.(*kmsg.DeleteTopicsResponse)
		add := func(name *string, id [16]byte) {
			r := kmsg.NewDeleteTopicsResponseTopic()
			r.Topic, r.TopicID = name, id
			if name == nil && id != [16]byte{} {
				known, _ := w.router.Directory().Topic(id)
				r.Topic = &known
				for _, m := range w.mirrors {
					if m.TopicID == id {
						r.Topic = &m.Topic
					}
				}
			}
			if r.Topic != nil {
				r.ErrorCode, r.ErrorMessage = code(*r.Topic)
			}
			if r.Topic != nil && r.ErrorCode == 0 {
				if m, ok := w.mirrors[*r.Topic]; ok {
					r.TopicID = m.TopicID
				}
				if id, ok := w.deletes[*r.Topic]; ok {
					r.TopicID = id
				}
			}
			resp.Topics = append(resp.Topics, r)
		}
		for _, name := range req.TopicNames {
			add(&name, [16]byte{})
		}
		for _, t := range req.Topics {
			add(t.Topic, t.TopicID)
		}
	case *kmsg.DeleteRecordsRequest:
		resp := resp.(*kmsg.DeleteRecordsResponse)
		for _, t := range req.Topics {
			r := kmsg.NewDeleteRecordsResponseTopic()
			r.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewDeleteRecordsResponseTopicPartition()
				rp.Partition, rp.LowWatermark = p.Partition, p.Offset
				if rp.ErrorCode, _ = code(t.Topic); rp.ErrorCode != 0 {
					rp.LowWatermark = -1
				}
				r.Partitions = append(r.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, r)
		}
	case *kmsg.AddPartitionsToTxnRequest:
		resp := resp.(*kmsg.AddPartitionsToTxnResponse)
		for _, t := range req.Topics {
			r := kmsg.NewAddPartitionsToTxnResponseTopic()
			r.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
				rp.Partition = p
				r.Partitions = append(r.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, r)
		}
	case *kmsg.DescribeConfigsRequest:
		resp := resp.(*kmsg.DescribeConfigsResponse)
		for _, res := range req.Resources {
			r := kmsg.NewDescribeConfigsResponseResource()
			r.ResourceType, r.ResourceName = res.ResourceType, res.ResourceName
			if r.ErrorCode, r.ErrorMessage = code(res.ResourceName); r.ErrorCode == 0 && res.ConfigNames == nil {
				c := kmsg.NewDescribeConfigsResponseResourceConfig()
				c.Name, c.Value, c.Source = "retention.ms", kmsg.StringPtr("1"), kmsg.ConfigSourceDefaultConfig
				r.Configs = append(r.Configs, c)
			}
			resp.Resources = append(resp.Resources, r)
		}
	case *kmsg.AlterConfigsRequest:
		resp := resp.(*kmsg.AlterConfigsResponse)
		for _, res := range req.Resources {
			r := kmsg.NewAlterConfigsResponseResource()
			r.ResourceType, r.ResourceName = res.ResourceType, res.ResourceName
			r.ErrorCode, r.ErrorMessage = code(res.ResourceName)
			resp.Resources = append(resp.Resources, r)
		}
	case *kmsg.IncrementalAlterConfigsRequest:
		resp := resp.(*kmsg.IncrementalAlterConfigsResponse)
		for _, res := range req.Resources {
			r := kmsg.NewIncrementalAlterConfigsResponseResource()
			r.ResourceType, r.ResourceName = res.ResourceType, res.ResourceName
			r.ErrorCode, r.ErrorMessage = code(res.ResourceName)
			resp.Resources = append(resp.Resources, r)
		}
	case *kmsg.CreatePartitionsRequest:
		resp := resp.(*kmsg.CreatePartitionsResponse)
		for _, t := range req.Topics {
			r := kmsg.NewCreatePartitionsResponseTopic()
			r.Topic = t.Topic
			r.ErrorCode, r.ErrorMessage = code(t.Topic)
			resp.Topics = append(resp.Topics, r)
		}
	}
}
