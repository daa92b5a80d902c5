package core

// IdleEnd returns where the log ends; idle is true if nothing is in flight or queued.
func (p *Partition) IdleEnd() (phys int64, idle bool) {
	return p.Phys, p.State == StateRunning && !p.Stopping && p.Flight == 0 && len(p.Queue) == 0
}

// EndSeen handles the answer that the log ends at end, asked for while the core had it end at phys.
// Only klink appends to the log, so if end is behind phys, the core reads the log.
func (p *Partition) EndSeen(phys, end int64) Effects {
	if now, idle := p.IdleEnd(); !idle || now != phys || end <= phys {
		return Effects{}
	}
	return p.reread(false)
}

// Rewritten fails the partition, since the destination does not store batches as they are sent: at
// once, or when what is in flight is settled.
func (p *Partition) Rewritten(f *Failure) Effects {
	if p.Ended() || p.broken != nil {
		return Effects{}
	}
	p.broken = f
	p.drop()
	return p.settle(Effects{})
}
