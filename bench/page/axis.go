package page

import (
	"math"
	"strconv"
	"strings"
)

// axis maps values to coordinates.
type axis struct {
	at    func(float64) float64
	ticks []float64
}

// logAxis begins and ends with a power of ten, or with 2 or 5 times one. Values that are not above
// 0 are at its beginning.
func logAxis(low, high, from, to float64) axis {
	if !(low > 0) || math.IsInf(low, 0) || math.IsInf(high, 0) {
		low, high = 1, 10
	}
	floor := func(v float64) float64 {
		p := math.Pow(10, math.Floor(math.Log10(v)))
		for _, m := range []float64{5, 2} {
			if m*p <= v*1.0000001 {
				return m * p
			}
		}
		return p
	}
	a, b := floor(low), floor(high)
	if b < high {
		b = next(b)
	}
	if b <= a {
		b = next(a)
	}
	scale := (to - from) / math.Log(b/a)
	ax := axis{at: func(v float64) float64 { return from + math.Log(max(v, a)/a)*scale }}
	few := b/a > 500 // only powers of ten get a tick
	for t := a; t <= b*1.0001; t = next(t) {
		if mantissa := t / math.Pow(10, math.Floor(math.Log10(t)+1e-9)); !few || mantissa < 1.5 {
			ax.ticks = append(ax.ticks, t)
		}
	}
	return ax
}

// next returns the next number of 1, 2, 5, 10, 20, ...
func next(v float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(v)+1e-9))
	switch m := v / p; {
	case m < 1.5:
		return 2 * p
	case m < 3:
		return 5 * p
	}
	return 10 * p
}

// linearAxis begins at 0 and has about five ticks.
func linearAxis(high, from, to float64) axis {
	if !(high > 0) || math.IsInf(high, 0) {
		high = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(high/4)))
	for high/step > 6 {
		step = next(step)
	}
	top := math.Ceil(high/step-1e-9) * step
	ax := axis{at: func(v float64) float64 { return from + v/top*(to-from) }}
	for i := 0; float64(i)*step <= top*1.0001; i++ {
		ax.ticks = append(ax.ticks, float64(i)*step)
	}
	return ax
}

func class(kind string, colour int) string { return kind + strconv.Itoa(colour) }

// tickText formats a value of an axis, which has one or two digits.
func tickText(v float64) string {
	s := strings.TrimRight(strings.TrimRight(strconv.FormatFloat(v, 'f', 6, 64), "0"), ".")
	if whole, part, _ := strings.Cut(s, "."); part == "" && len(whole) > 4 {
		return figure(v)
	}
	return s
}
