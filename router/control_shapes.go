package router

import (
	p "klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// controlShapes are the messages of the control path as they lie on the wire (Kafka's message definitions,
// clients/src/main/resources/common/message), which are checked before they are decoded. Tagged fields are not listed.
var controlShapes = map[int16]struct{ request, response p.Shape }{
	int16(kmsg.Metadata): { // only version 8, which klink asks for itself
		response: p.Shape{
			p.Fixed(4), // throttle
			p.Structs(p.Fixed(4), p.String(), p.Fixed(4), p.String()), // brokers: id, host, port, rack
			p.String(), // cluster id
			p.Fixed(4), // controller
			p.Structs(p.Fixed(2), p.String(), p.Fixed(1), p.Structs( // topics: error, name, internal, partitions:
				p.Fixed(2+4+4+4),                                   // error, index, leader, leader epoch
				p.FixedArray(4), p.FixedArray(4), p.FixedArray(4)), // replicas, in-sync replicas, offline replicas
				p.Fixed(4)), // authorised operations of the topic
			p.Fixed(4), // authorised operations of the cluster
		},
	},
	int16(kmsg.CreateTopics): {
		request: p.Shape{
			p.Structs(
				p.String(), p.Fixed(4+2), // name, partitions, replication factor
				p.Structs(p.Fixed(4), p.FixedArray(4)), // assignments: partition, brokers
				p.Structs(p.String(), p.String()),      // configs
			),
			p.Fixed(4),         // timeout
			p.Fixed(1).From(1), // validate only
		},
		response: p.Shape{
			p.Fixed(4).From(2), // throttle
			p.Structs(
				p.String(), p.Fixed(16).From(7), // name, id
				p.Fixed(2), p.String().From(1), // error
				p.Fixed(4+2).From(5), // partitions, replication factor
				p.Structs(p.String(), p.String(), p.Fixed(1+1+1)).From(5), // configs
			),
		},
	},
	int16(kmsg.DeleteTopics): {
		request: p.Shape{
			p.Strings().To(5),
			p.Structs(p.String(), p.Fixed(16)).From(6), // name, id
			p.Fixed(4), // timeout
		},
		response: p.Shape{
			p.Fixed(4).From(1), // throttle
			p.Structs(p.String(), p.Fixed(16).From(6), p.Fixed(2), p.String().From(5)), // name, id, error
		},
	},
	int16(kmsg.DeleteRecords): {
		request: p.Shape{
			p.Structs(p.String(), p.Structs(p.Fixed(4+8))), // topic, partitions: index, offset
			p.Fixed(4), // timeout
		},
		response: p.Shape{
			p.Fixed(4), // throttle
			p.Structs(p.String(), p.Structs(p.Fixed(4+8+2))), // topic, partitions: index, low watermark, error
		},
	},
	int16(kmsg.AddPartitionsToTxn): {
		request: p.Shape{
			p.String(), p.Fixed(8 + 2), // transactional id, producer id and epoch
			p.Structs(p.String(), p.FixedArray(4)), // topics
		},
	},
	int16(kmsg.DescribeConfigs): {
		request: p.Shape{
			p.Structs(p.Fixed(1), p.String(), p.Strings()), // resources: type, name, config names
			p.Fixed(1).From(1), p.Fixed(1).From(3), // synonyms, documentation
		},
		response: p.Shape{
			p.Fixed(4), // throttle
			p.Structs(
				p.Fixed(2), p.String(), p.Fixed(1), p.String(), // error, type, name
				p.Structs(
					p.String(), p.String(), p.Fixed(1+1+1), // name, value, read-only, default or source, sensitive
					p.Structs(p.String(), p.String(), p.Fixed(1)).From(1), // synonyms
					p.Fixed(1).From(3), p.String().From(3), // type, documentation
				),
			),
		},
	},
	int16(kmsg.AlterConfigs): {
		request: p.Shape{
			p.Structs(p.Fixed(1), p.String(), p.Structs(p.String(), p.String())), // resources: type, name, configs
			p.Fixed(1), // validate only
		},
		response: alterConfigsResponse,
	},
	int16(kmsg.IncrementalAlterConfigs): {
		request: p.Shape{
			p.Structs(p.Fixed(1), p.String(), p.Structs(p.String(), p.Fixed(1), p.String())), // configs: name, operation, value
			p.Fixed(1), // validate only
		},
		response: alterConfigsResponse,
	},
	int16(kmsg.ShareGroupHeartbeat): {
		request: p.Shape{
			p.String(), p.String(), p.Fixed(4), p.String(), // group, member, epoch, rack
			p.Strings(), // subscribed topics
		},
	},
	int16(kmsg.AlterShareGroupOffsets): {
		request: p.Shape{
			p.String(), // group
			p.Structs(p.String(), p.Structs(p.Fixed(4+8))), // topics: name, partitions: index, start offset
		},
	},
	int16(kmsg.CreatePartitions): {
		request: p.Shape{
			p.Structs(p.String(), p.Fixed(4), p.Structs(p.FixedArray(4))), // topics: name, count, assignments
			p.Fixed(4 + 1), // timeout, validate only
		},
		response: p.Shape{
			p.Fixed(4), // throttle
			p.Structs(p.String(), p.Fixed(2), p.String()), // topics: name, error
		},
	},
}

var alterConfigsResponse = p.Shape{
	p.Fixed(4), // throttle
	p.Structs(p.Fixed(2), p.String(), p.Fixed(1), p.String()), // error, type, name
}
