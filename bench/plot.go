package main

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"
)

// The plot: a panel for each figure, a bar for each system, on a scale of
// tenfold steps, since systems that keep jobs in memory are beside such that
// wait for a disk.
const (
	plotWidth  = 900
	labelWidth = 270
	barsWidth  = 480
	barHeight  = 18
	panelHead  = 56
	panelFoot  = 14
)

// draw writes the results as SVG.
func draw(w io.Writer, r *results) error {
	b := bufio.NewWriter(w)
	height := 0
	for _, f := range r.figures {
		height += panelHead + len(r.rows(f))*barHeight + panelFoot
	}
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, height, plotWidth)
	fmt.Fprintf(b, `<rect width="%d" height="%d" fill="white"/>`+"\n", plotWidth, height)
	y := 0
	for _, f := range r.figures {
		y = panel(b, f, r.rows(f), y)
	}
	fmt.Fprintln(b, "</svg>")
	return b.Flush()
}

// panel draws a figure from y on, and returns where it ends.
func panel(b io.Writer, f figure, rows []row, y int) int {
	unit, better := "jobs/s", "more is better"
	if f.latency {
		unit, better = "ms at the median, and a line to the 99th percentile", "less is better"
	}
	text(b, 10, y+24, "start", `font-size="15" font-weight="bold"`, f.title)
	text(b, 10, y+42, "start", `fill="#555"`, fmt.Sprintf("%s; %s; each tenfold step is as wide", unit, better))
	y += panelHead
	least, most := math.Inf(1), 0.0
	for _, r := range rows {
		low, high := r.ends(f)
		least, most = min(least, low), max(most, high)
	}
	from, to := math.Floor(math.Log10(least)), math.Ceil(math.Log10(most))
	if from == to {
		to++
	}
	x := func(v float64) float64 { return labelWidth + barsWidth*(math.Log10(v)-from)/(to-from) }
	for step := from; step <= to; step++ {
		at := x(math.Pow(10, step))
		fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#ddd"/>`+"\n", at, y-4, at, y+len(rows)*barHeight)
		text(b, at, y-6, "middle", `fill="#777" font-size="10"`, fmt.Sprintf("%g", math.Pow(10, step)))
	}
	for _, r := range rows {
		bar(b, f, r, x, y)
		y += barHeight
	}
	return y + panelFoot
}

// ends are what a row's bar and line reach from and to.
func (r *row) ends(f figure) (low, high float64) {
	if f.latency {
		return r.p50.Seconds() * 1e3, r.p99.Seconds() * 1e3
	}
	return r.rate.least, r.rate.most
}

func bar(b io.Writer, f figure, r row, x func(float64) float64, y int) {
	low, high := r.ends(f)
	value, label := r.rate.median, thousands(r.rate.median)
	if f.latency {
		value, label = low, millis(r.p50)+" / "+millis(r.p99)
	}
	colour := "#9aa5b1"
	if strings.HasPrefix(r.system.title, "Consign") {
		colour = "#2b6cb0"
	}
	middle := y + barHeight/2
	text(b, labelWidth-8, middle+4, "end", "", r.system.title)
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", labelWidth, y+2, max(1, x(value)-labelWidth), barHeight-4, colour)
	fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#111"/>`+"\n", x(low), middle, x(high), middle)
	text(b, x(high)+6, middle+4, "start", "", label)
}

func text[T int | float64](b io.Writer, x T, y int, anchor, more, s string) {
	fmt.Fprintf(b, `<text x="%v" y="%d" text-anchor="%s" %s>`, x, y, anchor, more)
	_ = xml.EscapeText(b, []byte(s))
	fmt.Fprintln(b, "</text>")
}
