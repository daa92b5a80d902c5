package store

import (
	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/router"
)

// Snapshot returns what the router needs of a state.
func Snapshot(state *model.State) *router.Snapshot {
	s := &router.Snapshot{Complete: true, Mirrors: make(map[string]*router.Mirror, len(state.Mirrors))}
	synced := map[string]map[string]bool{} // by link
	for topic, m := range state.Mirrors {
		if synced[m.Link] == nil {
			synced[m.Link] = linkconfig.SyncedConfigs(linkConfigsOf(state, m.Link))
		}
		timelines := state.Timelines[topic]
		if timelines == nil {
			timelines = state.Uncreated[topic]
		}
		s.Mirrors[topic] = &router.Mirror{
			Topic: topic, ID: m.ID, TopicID: m.TopicID, Link: m.Link, SourceTopic: m.SourceTopic, State: string(m.Shown()),
			// From the moment the mirror is recorded until it is STOPPED: see router.Mirror.
			ReadOnly:      m.State != model.MirrorStopped,
			Timelines:     timelines,
			SyncedConfigs: synced[m.Link],
		}
	}
	return s
}

// linkConfigsOf returns the configs of a link; nil if it is gone.
func linkConfigsOf(state *model.State, link string) map[string]string {
	if l := state.Links[link]; l != nil {
		return l.Configs
	}
	return nil
}
