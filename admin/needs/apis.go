package needs

import (
	"errors"
	"fmt"

	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// learnVersions asks all brokers which APIs they offer.
func (a *asker) learnVersions() error {
	all, err := a.admin.ApiVersions(a.ctx)
	if err == nil {
		for _, b := range all {
			if b.Err != nil {
				err = b.Err
				continue
			}
			a.offers(b.Raw())
		}
	}
	if a.versions != nil || a.ctx.Err() != nil {
		return a.ctx.Err()
	}
	// A cluster without Metadata can be asked all the same.
	for _, b := range a.Client.SeedBrokers() {
		req := kmsg.NewPtrApiVersionsRequest()
		req.ClientSoftwareName, req.ClientSoftwareVersion = "klink", "1" // empty ones are refused
		kresp, failed := b.Request(a.ctx, req)
		if failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		if resp, ok := kresp.(*kmsg.ApiVersionsResponse); ok && resp.ErrorCode == 0 {
			a.offers(resp)
			return nil
		}
	}
	if err == nil {
		err = errors.New("no broker answered")
	}
	return fmt.Errorf("could not ask the cluster which APIs it offers: %w", err)
}

// offers notes what one broker offers. What one broker lacks, klink cannot use.
func (a *asker) offers(resp *kmsg.ApiVersionsResponse) {
	these := make(map[int16]span, len(resp.ApiKeys))
	for _, k := range resp.ApiKeys {
		these[k.ApiKey] = span{k.MinVersion, k.MaxVersion}
	}
	if a.versions == nil {
		a.versions, a.lacking = these, map[int16]bool{}
		return
	}
	for key, s := range a.versions {
		theirs, offered := these[key]
		if !offered {
			delete(a.versions, key)
			a.lacking[key] = true
			continue
		}
		a.versions[key] = span{max(s.min, theirs.min), min(s.max, theirs.max)}
	}
	for key := range these {
		if _, all := a.versions[key]; !all {
			a.lacking[key] = true
		}
	}
}

func (a *asker) askAPI(n api) verdict {
	s, offered := a.versions[int16(n.key)]
	switch {
	case !offered && a.lacking[int16(n.key)]:
		return missing("some brokers do not offer it")
	case !offered:
		return missing("the brokers do not offer it")
	case s.max < n.least:
		return missing("the brokers offer v%d at most, klink needs v%d", s.max, n.least)
	}
	v := a.tryAPI(n.key)
	if v.state == linkapi.NeedOK && v.detail == "" {
		v.detail = fmt.Sprintf("v%d to v%d", s.min, s.max)
	}
	return v
}

// tryAPI sends a request that changes nothing, for APIs that brokers may offer and still refuse. If
// only a right is missing, the API is there: the needs of kind right say so.
func (a *asker) tryAPI(key kmsg.Key) verdict {
	var err error
	switch key {
	case kmsg.DescribeACLs, kmsg.CreateACLs, kmsg.DeleteACLs:
		err = a.describeACLs()
	case kmsg.DescribeConfigs:
		if topic := a.anyTopic(); topic != "" {
			_, err = a.topicConfigs(topic)
		}
	case kmsg.ListGroups:
		_, err = a.admin.ListGroups(a.ctx)
	case kmsg.ListTransactions:
		_, err = a.admin.ListTransactions(a.ctx, nil, []string{"Ongoing"})
	case kmsg.DescribeTransactions:
		err = a.describeTransaction(everyTxn.name)
	case kmsg.WriteTxnMarkers:
		err = a.writeNoMarkers()
	}
	if isDenied(err) {
		return ok("the user may not use it: see the rights")
	}
	return of(err)
}

// describeACLs asks for the ACLs of one topic.
func (a *asker) describeACLs() error {
	req := kmsg.NewPtrDescribeACLsRequest()
	name := stateName
	req.ResourceType, req.ResourceName, req.ResourcePatternType = kmsg.ACLResourceTypeTopic, &name, kmsg.ACLResourcePatternTypeLiteral
	req.Operation, req.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	resp, err := req.RequestWith(a.ctx, a.Client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

// describeTransaction asks about a transactional id; one that nobody uses is no error.
func (a *asker) describeTransaction(id string) error {
	described, err := a.admin.DescribeTransactions(a.ctx, id)
	if err == nil {
		err = described[id].Err
	}
	if errors.Is(err, kerr.TransactionalIDNotFound) {
		return nil
	}
	return err
}

// writeNoMarkers sends WriteTxnMarkers without a marker. Brokers answer it, whoever sends it.
func (a *asker) writeNoMarkers() error {
	brokers := a.Client.DiscoveredBrokers()
	if len(brokers) == 0 {
		return nil
	}
	_, err := brokers[0].Request(a.ctx, kmsg.NewPtrWriteTxnMarkersRequest())
	return err
}
