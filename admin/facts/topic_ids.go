package facts

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// This file looks up the names of topic ids. Clients choose the ids that klink meets. So the cost
// of an id does not depend on the number of topics, and no lock is held while the destination is
// asked:
//
//  1. One question is in flight at a time. Ids that arrive during it wait for the next one,
//     together.
//  2. klink never asks for an id that is already waited for.
//  3. klink remembers for unknownFor that an id does not exist.

const (
	// unknownFor is how long klink remembers that a topic id does not exist. A client that keeps
	// asking for it costs one question a second.
	unknownFor = time.Second
	// maxUnknownIDs bounds what clients can make klink remember; beyond it, klink forgets all.
	maxUnknownIDs = 10_000
	// maxAskedIDs bounds the ids of one question.
	maxAskedIDs = 1_000
	// maxPendingIDs bounds the ids that wait for an answer, of all clients together.
	maxPendingIDs = 100_000
	// askTimeout bounds one question.
	askTimeout = 30 * time.Second
)

// topicQuestion asks for the names of some ids. err is set before done is closed.
type topicQuestion struct {
	ids  [][16]byte
	done chan struct{}
	err  error
}

// topicQuestions holds the ids that are being looked up, and those that do not exist.
type topicQuestions struct {
	life context.Context // ends with Facts.Close
	end  context.CancelFunc

	mu      sync.Mutex
	closed  bool
	busy    bool             // a goroutine works on queue
	queue   []*topicQuestion // not asked yet
	pending map[[16]byte]*topicQuestion
	unknown map[[16]byte]time.Time // when to ask again
	forget  *time.Timer            // drops entries of unknown that are too old; nil = not set
}

func newTopicQuestions() topicQuestions {
	life, end := context.WithCancel(context.Background())
	return topicQuestions{life: life, end: end, pending: map[[16]byte]*topicQuestion{}, unknown: map[[16]byte]time.Time{}}
}

func (q *topicQuestions) close() {
	q.end()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	if q.forget != nil {
		q.forget.Stop()
	}
}

// LearnTopicIDs implements router.Facts.
func (f *Facts) LearnTopicIDs(ctx context.Context, ids [][16]byte) error {
	questions, err := f.questions(ids)
	if err != nil {
		return err
	}
	for _, question := range questions {
		select {
		case <-question.done:
			if question.err != nil {
				return question.err
			}
		case <-ctx.Done():
			return fmt.Errorf("could not look up topic ids at the destination: %w", ctx.Err())
		}
	}
	return nil
}

// questions returns the questions that must be answered before all ids are known.
func (f *Facts) questions(ids [][16]byte) (wait []*topicQuestion, err error) {
	q := &f.topics
	q.mu.Lock()
	defer q.mu.Unlock()
	now := f.cfg.Now()
	waits := map[*topicQuestion]bool{}
	for _, id := range ids {
		if id == [16]byte{} || now.Before(q.unknown[id]) {
			continue
		}
		if name, _ := f.directory.Topic(id); name != "" {
			continue
		}
		question := q.pending[id]
		if question == nil && len(q.pending) >= maxPendingIDs {
			err = fmt.Errorf("klink is already looking up %d topic ids at the destination; try again", len(q.pending))
			break
		}
		if question == nil {
			question = q.add(id)
		}
		if !waits[question] {
			waits[question] = true
			wait = append(wait, question)
		}
	}
	if len(q.queue) > 0 && !q.busy && !q.closed {
		q.busy = true
		f.work.Go(f.askForTopics)
	}
	return wait, err
}

// add adds an id to a question that is still to be asked. The caller holds the lock.
func (q *topicQuestions) add(id [16]byte) *topicQuestion {
	if n := len(q.queue); n == 0 || len(q.queue[n-1].ids) >= maxAskedIDs {
		q.queue = append(q.queue, &topicQuestion{done: make(chan struct{})})
	}
	question := q.queue[len(q.queue)-1]
	question.ids = append(question.ids, id)
	q.pending[id] = question
	return question
}

// askForTopics asks questions until none is left.
func (f *Facts) askForTopics() {
	q := &f.topics
	for {
		q.mu.Lock()
		if len(q.queue) == 0 {
			q.busy = false
			q.mu.Unlock()
			return
		}
		question := q.queue[0]
		q.queue = q.queue[1:]
		q.mu.Unlock()
		names, err := f.namesOf(question.ids)
		if err == nil {
			f.answered(question.ids, names)
		}
		q.mu.Lock()
		for _, id := range question.ids {
			delete(q.pending, id)
		}
		question.err = err
		close(question.done)
		q.mu.Unlock()
	}
}

// namesOf asks the destination. Brokers have Metadata by topic id (v12) from Kafka 3.1 on; clients
// send topic ids only to those.
func (f *Facts) namesOf(ids [][16]byte) (map[[16]byte]string, error) {
	ctx, cancel := context.WithTimeout(f.topics.life, askTimeout)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	for _, id := range ids {
		t := kmsg.NewMetadataRequestTopic()
		t.TopicID = id
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, f.client)
	if err != nil {
		return nil, fmt.Errorf("could not look up %d topic ids at the destination: %w", len(ids), err)
	}
	names := map[[16]byte]string{}
	for _, t := range resp.Topics {
		switch {
		case t.ErrorCode == kerr.UnknownTopicID.Code, t.ErrorCode == kerr.UnknownTopicOrPartition.Code,
			t.ErrorCode == kerr.TopicAuthorizationFailed.Code:
			// A topic that klink may not see is neither a mirror nor klink's own.
			continue
		case t.Topic != nil && t.TopicID != [16]byte{}:
			names[t.TopicID] = *t.Topic
		case t.ErrorCode != 0:
			return nil, fmt.Errorf("could not look up a topic id at the destination: %w", kerr.ErrorForCode(t.ErrorCode))
		}
	}
	return names, nil
}

// answered publishes the names of ids, and remembers that the other ids do not exist.
func (f *Facts) answered(ids [][16]byte, names map[[16]byte]string) {
	if len(names) > 0 {
		f.cfg.TopicsSeen(names)
	}
	news := make(map[[16]byte]string, len(ids))
	q := &f.topics
	q.mu.Lock()
	defer q.mu.Unlock()
	now := f.cfg.Now()
	if len(q.unknown)+len(ids) > maxUnknownIDs {
		f.forgetUnknown(func(time.Time) bool { return true })
	}
	for _, id := range ids {
		name := names[id]
		news[id] = name
		if name == "" {
			q.unknown[id] = now.Add(unknownFor)
		}
	}
	f.directory.AddTopics(news)
	f.forgetLater()
}

// forgetUnknown forgets ids that did not exist. The caller holds the lock.
func (f *Facts) forgetUnknown(which func(again time.Time) bool) {
	var old [][16]byte
	for id, again := range f.topics.unknown {
		if which(again) {
			old = append(old, id)
			delete(f.topics.unknown, id)
		}
	}
	if len(old) > 0 {
		f.directory.ForgetGone(old)
	}
}

// forgetLater sets a timer that forgets ids that did not exist. The caller holds the lock.
func (f *Facts) forgetLater() {
	q := &f.topics
	if len(q.unknown) == 0 || q.forget != nil || q.closed {
		return
	}
	q.forget = time.AfterFunc(unknownFor, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.forget = nil
		now := f.cfg.Now()
		f.forgetUnknown(func(again time.Time) bool { return !now.Before(again) })
		f.forgetLater()
	})
}

// learnAllTopics publishes all topics that exist now.
func (f *Facts) learnAllTopics(ctx context.Context) error {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = nil // all
	resp, err := req.RequestWith(ctx, f.client)
	if err != nil {
		return fmt.Errorf("could not list the topics of the destination: %w", err)
	}
	seen := map[[16]byte]string{}
	for _, t := range resp.Topics {
		if t.Topic != nil && t.TopicID != [16]byte{} {
			seen[t.TopicID] = *t.Topic
		}
	}
	f.directory.SetTopics(seen)
	f.cfg.TopicsSeen(seen)
	return nil
}
