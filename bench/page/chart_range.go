package page

import (
	"math"

	"klink/bench"
)

// distribution draws a line from the lowest to the highest of three percentiles for each row, all
// on one logarithmic scale.
func distribution(title, note string, groups []group) []byte {
	c, y := newCanvas(title, note, 62+groupsHeight(groups)+24)
	left := margin + nameWidth(groups)
	const labels = 190.0
	right := c.width - margin - labels
	low, high := math.Inf(1), math.Inf(-1)
	for _, g := range groups {
		for _, r := range g.rows {
			for _, s := range []bench.Spread{r.low, r.mid, r.high} {
				if s.N > 0 && s.Median > 0 {
					low, high = min(low, s.Median), max(high, s.Median)
				}
			}
		}
	}
	axis := logAxis(low, high, left, right)
	bottom := y + groupsHeight(groups) - groupGap/2
	for _, tick := range axis.ticks {
		x := axis.at(tick)
		c.line("g", 1, x, y, x, bottom)
		c.text("m s", atMiddle, x, bottom+14, tickText(tick))
	}
	c.text("m s", atStart, right+20, bottom+14, "ms, logarithmic")
	for _, g := range groups {
		c.text("t k", atStart, margin, y+12, g.name)
		y += groupTitle
		for _, r := range g.rows {
			mid := y + rowHeight/2
			c.text(nameClass(r.name), atEnd, left-8, y+12, r.name)
			var label string
			var from, to float64
			for i, s := range []bench.Spread{r.low, r.mid, r.high} {
				if s.N == 0 {
					continue
				}
				x := axis.at(s.Median)
				if label == "" {
					from = x
				} else {
					label += " / "
				}
				label, to = label+figure(s.Median), x
				c.marks(i, r.colour, x, mid)
			}
			if label == "" {
				c.text("m s", atStart, left+4, y+12, "no run that counts")
			} else {
				c.line(class("l", r.colour), 2, from, mid, to, mid)
				c.text(nameClass(r.name), atStart, right+20, y+12, label)
			}
			y += rowHeight
		}
		y += groupGap
	}
	return c.render(title)
}

// marks draws the mark of the n-th percentile: a dot, a bar, a ring.
func (c *canvas) marks(n, colour int, x, y float64) {
	switch n {
	case 0:
		c.circle(class("b", colour), x, y, 5)
	case 1:
		c.rect(class("b", colour), x-2, y-6, 4, 12)
	default:
		c.circle("bg", x, y, 4)
		c.circle(class("l", colour)+`" style="fill:none;stroke-width:2`, x, y, 4)
	}
}
