package page

import "klink/bench"

// group is a workload in a plot, with a row for each subject.
type group struct {
	name string
	rows []row
}

// row is a subject's figure. For bars it is value, for a distribution low, mid and high.
type row struct {
	name           string
	colour         int
	value          bench.Spread
	low, mid, high bench.Spread
}

const (
	rowHeight  = 17.0
	groupGap   = 14.0
	groupTitle = 20.0
)

func groupsHeight(groups []group) (h float64) {
	for _, g := range groups {
		h += groupTitle + float64(len(g.rows))*rowHeight + groupGap
	}
	return h
}

// nameWidth returns the width that the names of rows need.
func nameWidth(groups []group) (w float64) {
	for _, g := range groups {
		for _, r := range g.rows {
			w = max(w, textWidth(r.name))
		}
	}
	return w + 10
}

func nameClass(name string) string {
	if name == klink {
		return "t k"
	}
	return "t"
}

// bars draws a bar for the median of each row and a line for its range. Each group has a scale of
// its own, from 0 on.
func bars(title, note string, groups []group) []byte {
	c, y := newCanvas(title, note, 62+groupsHeight(groups))
	left := margin + nameWidth(groups)
	const labels = 150.0 // to the right of the longest bar
	for _, g := range groups {
		top := 0.0
		for _, r := range g.rows {
			if r.value.N > 0 {
				top = max(top, r.value.High)
			}
		}
		c.text("t k", atStart, margin, y+12, g.name)
		y += groupTitle
		scale := (c.width - margin - labels - left) / max(top, 1e-12)
		for _, r := range g.rows {
			c.text(nameClass(r.name), atEnd, left-8, y+12, r.name)
			if r.value.N == 0 {
				c.text("m s", atStart, left+4, y+12, "no run that counts")
				y += rowHeight
				continue
			}
			x := left + r.value.Median*scale
			c.rect(class("b", r.colour), left, y+2, max(x-left, 1), rowHeight-5)
			if r.value.N > 1 {
				low, high := left+r.value.Low*scale, left+r.value.High*scale
				c.line("w", 1, low, y+rowHeight/2-.5, high, y+rowHeight/2-.5)
				c.line("w", 1, low, y+5, low, y+rowHeight-6)
				c.line("w", 1, high, y+5, high, y+rowHeight-6)
				x = high
			}
			c.text(nameClass(r.name), atStart, x+6, y+12, spreadText(r.value, ""))
			y += rowHeight
		}
		y += groupGap
	}
	return c.render(title)
}
