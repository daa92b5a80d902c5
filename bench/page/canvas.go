package page

import (
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
)

// canvas is an SVG that is being drawn. Colours are classes, with one value for light and one for
// dark surroundings, so that a plot is legible in both. gonum.org/v1/plot was tried: it writes
// fixed colours on white, and makes the binary 8 MB larger.
type canvas struct {
	body          strings.Builder
	width, height float64
}

// style has the colours of Okabe and Ito, which people with any kind of colour vision can tell
// apart, with darker ones of the same hues on white. Subjects that do less than a peer are grey.
const style = `
.bg{fill:#fff;stroke:#d8dee4}.t{fill:#1f2328}.m{fill:#59636e}.g{stroke:#d8dee4}.a{stroke:#59636e}.w{stroke:#1f2328}
.b0{fill:#0072b2}.b1{fill:#d55e00}.b2{fill:#009e73}.b3{fill:#cc79a7}.b4{fill:#b8860b}.b5{fill:#8c959f}.b6{fill:#b3bac1}.b7{fill:#d1d7dd}
.l0{stroke:#0072b2}.l1{stroke:#d55e00}.l2{stroke:#009e73}.l3{stroke:#cc79a7}.l4{stroke:#b8860b}.l5{stroke:#6e7781}.l6{stroke:#8c959f}.l7{stroke:#afb8c1}
@media(prefers-color-scheme:dark){
.bg{fill:#0d1117;stroke:#3d444d}.t{fill:#f0f6fc}.m{fill:#9198a1}.g{stroke:#2f353d}.a{stroke:#9198a1}.w{stroke:#f0f6fc}
.b0{fill:#56b4e9}.b1{fill:#f08742}.b2{fill:#1fbf92}.b3{fill:#dd9cc3}.b4{fill:#f0c040}.b5{fill:#767e87}.b6{fill:#5b636c}.b7{fill:#444b53}
.l0{stroke:#56b4e9}.l1{stroke:#f08742}.l2{stroke:#1fbf92}.l3{stroke:#dd9cc3}.l4{stroke:#f0c040}.l5{stroke:#9198a1}.l6{stroke:#767e87}.l7{stroke:#5b636c}}
text{font:12px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif}.h{font-size:15px;font-weight:600}.s{font-size:11px}.k{font-weight:600}
path,line{fill:none}
`

// number formats a coordinate, with a tenth of a pixel.
func number(v float64) string {
	s := strconv.FormatFloat(v, 'f', 1, 64)
	return strings.TrimSuffix(s, ".0")
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder never fails
	return b.String()
}

func (c *canvas) rect(class string, x, y, w, h float64) {
	fmt.Fprintf(&c.body, `<rect class="%s" x="%s" y="%s" width="%s" height="%s"/>`+"\n", class, number(x), number(y), number(w), number(h))
}

func (c *canvas) line(class string, width, x1, y1, x2, y2 float64) {
	fmt.Fprintf(&c.body, `<line class="%s" stroke-width="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`+"\n", class, number(width), number(x1), number(y1), number(x2), number(y2))
}

func (c *canvas) circle(class string, x, y, r float64) {
	fmt.Fprintf(&c.body, `<circle class="%s" cx="%s" cy="%s" r="%s"/>`+"\n", class, number(x), number(y), number(r))
}

type point struct{ x, y float64 }

// polyline draws a line through points. fill closes it and fills it faintly.
func (c *canvas) polyline(class string, fill bool, points []point) {
	var d strings.Builder
	for i, p := range points {
		command := " "
		if i == 0 {
			command = "M"
		}
		d.WriteString(command + number(p.x) + "," + number(p.y))
	}
	if fill {
		fmt.Fprintf(&c.body, `<path class="%s" style="fill-opacity:.16" d="%sZ"/>`+"\n", class, d.String())
		return
	}
	fmt.Fprintf(&c.body, `<path class="%s" stroke-width="2" stroke-linejoin="round" d="%s"/>`+"\n", class, d.String())
}

// anchors of a text.
const (
	atStart  = "start"
	atMiddle = "middle"
	atEnd    = "end"
)

func (c *canvas) text(class, anchor string, x, y float64, text string) {
	fmt.Fprintf(&c.body, `<text class="%s" text-anchor="%s" x="%s" y="%s">%s</text>`+"\n", class, anchor, number(x), number(y), escape(text))
}

// textWidth returns the approximate width of a text at 12 pixels.
func textWidth(text string) float64 {
	w := 0.0
	for _, r := range text {
		switch {
		case strings.ContainsRune("iljtf.,:;|!'()[] ", r):
			w += 3.8
		case strings.ContainsRune("mwMW%", r):
			w += 10
		default:
			w += 6.9
		}
	}
	return w
}

// render returns the whole file. Screen readers read title.
func (c *canvas) render(title string) []byte {
	var b strings.Builder
	w, h := number(c.width), number(c.height)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%s" height="%s" viewBox="0 0 %s %s" role="img">`+"\n<title>%s</title>\n<style>%s</style>\n", w, h, w, h, escape(title), style)
	fmt.Fprintf(&b, `<rect class="bg" x=".5" y=".5" width="%s" height="%s" rx="6"/>`+"\n", number(c.width-1), number(c.height-1))
	b.WriteString(c.body.String() + "</svg>\n")
	return []byte(b.String())
}

const (
	chartWidth = 820.0
	margin     = 16.0
)

// newCanvas returns a canvas with a title and a line below it; drawing begins at top.
func newCanvas(title, note string, height float64) (c *canvas, top float64) {
	c = &canvas{width: chartWidth, height: height}
	c.text("t h", atStart, margin, 28, title)
	c.text("m", atStart, margin, 46, note)
	return c, 62
}
