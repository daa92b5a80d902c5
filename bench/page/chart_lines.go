package page

import (
	"math"
	"slices"

	"klink/bench"
)

// lines is a plot with one line for each subject.
type lines struct {
	title, note  string
	xTitle       string
	x            []string // names of the places on the axis; with xs they are at values
	xs           []float64
	logarithmic  bool // the y axis
	points       bool // mark the values, and their ranges as lines; else ranges are bands
	lines        []curve
	labelsOfLast bool // the last value is in the label of a line
}

// curve has a value for each place. Values with N = 0 are left out.
type curve struct {
	name   string
	colour int
	values []bench.Spread
}

const plotHeight = 260.0

func (p *lines) render() []byte {
	c, top := newCanvas(p.title, p.note, 62+plotHeight+52)
	labels := 0.0
	for _, l := range p.lines {
		labels = max(labels, textWidth(l.label(p.labelsOfLast)))
	}
	left, right := margin+52, c.width-margin-labels-16
	bottom := top + plotHeight
	low, high := math.Inf(1), math.Inf(-1)
	for _, l := range p.lines {
		for _, v := range l.values {
			if v.N > 0 && (v.Low > 0 || !p.logarithmic) {
				low, high = min(low, v.Low), max(high, v.High)
			}
		}
	}
	y := linearAxis(high, bottom, top)
	if p.logarithmic {
		y = logAxis(low, high, bottom, top)
	}
	for _, t := range y.ticks {
		c.line("g", 1, left, y.at(t), right, y.at(t))
		c.text("m s", atEnd, left-6, y.at(t)+4, tickText(t))
	}
	at := p.places(c, left, right, bottom)
	c.text("m", atMiddle, (left+right)/2, bottom+36, p.xTitle)
	for _, l := range p.lines {
		c.curve(l, p.points, at, y.at)
	}
	p.name(c, y.at, right, top, bottom)
	return c.render(p.title)
}

// places draws the x axis and returns a function that gives the position of the n-th value.
func (p *lines) places(c *canvas, left, right, bottom float64) func(int) float64 {
	if len(p.xs) > 0 {
		x := linearAxis(p.xs[len(p.xs)-1], left, right)
		for _, t := range x.ticks {
			c.text("m s", atMiddle, x.at(t), bottom+16, tickText(t))
		}
		return func(i int) float64 { return x.at(p.xs[i]) }
	}
	step := (right - left) / float64(max(len(p.x), 1))
	at := func(i int) float64 { return left + (float64(i)+.5)*step }
	for i, name := range p.x {
		c.text("m s", atMiddle, at(i), bottom+16, name)
	}
	return at
}

func (c *canvas) curve(l curve, points bool, x func(int) float64, y func(float64) float64) {
	var middle, band []point
	for i, v := range l.values {
		if v.N == 0 {
			continue
		}
		middle = append(middle, point{x(i), y(v.Median)})
		band = append(band, point{x(i), y(v.High)})
		if points {
			c.line(class("l", l.colour), 1, x(i), y(v.Low), x(i), y(v.High))
			c.circle(class("b", l.colour), x(i), y(v.Median), 4)
		}
	}
	if !points {
		for i := len(l.values) - 1; i >= 0; i-- {
			if l.values[i].N > 0 {
				band = append(band, point{x(i), y(l.values[i].Low)})
			}
		}
		c.polyline(class("b", l.colour), true, band)
	}
	if len(middle) > 0 {
		c.polyline(class("l", l.colour), false, middle)
	}
}

func (l curve) last() (v bench.Spread) {
	for _, s := range l.values {
		if s.N > 0 {
			v = s
		}
	}
	return v
}

func (l curve) label(withLast bool) string {
	if v := l.last(); withLast && v.N > 0 {
		return l.name + " " + figure(v.Median)
	}
	return l.name
}

// name writes the names of the lines at their ends, and moves names that would overlap apart.
func (p *lines) name(c *canvas, y func(float64) float64, x, top, bottom float64) {
	type label struct {
		curve
		y float64
	}
	var all []label
	for _, l := range p.lines {
		if v := l.last(); v.N > 0 {
			all = append(all, label{l, y(v.Median)})
		}
	}
	slices.SortStableFunc(all, func(a, b label) int {
		switch {
		case a.y < b.y:
			return -1
		case a.y > b.y:
			return 1
		}
		return 0
	})
	const apart = 15.0
	for i := range all {
		if i > 0 {
			all[i].y = max(all[i].y, all[i-1].y+apart)
		}
	}
	for i := len(all) - 1; i >= 0; i-- {
		limit := bottom
		if i < len(all)-1 {
			limit = all[i+1].y - apart
		}
		all[i].y = max(min(all[i].y, limit), top+float64(i)*apart)
	}
	for _, l := range all {
		c.circle(class("b", l.colour), x+8, l.y, 4)
		c.text(nameClass(l.name), atStart, x+16, l.y+4, l.label(p.labelsOfLast))
	}
}
