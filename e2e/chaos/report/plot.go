package report

import (
	"fmt"
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
)

// The picture of a run: wide enough for a name at each fault, and high enough for all of
// it, since it is written upwards above the curves.
const (
	curves   = 5 * vg.Inch
	frame    = 1.2 * vg.Inch // title and axes
	nameSize = vg.Length(8)
	nameStep = vg.Length(10) // between two names
)

// plot draws accepted and ended orders over time. Each fault has its name, and is grey
// for as long as it went on.
func (r *Report) plot(file string) error {
	p := plot.New()
	p.Title.Text = fmt.Sprintf("Orders over time, seed %d: what was broken, and for how long", r.Seed)
	p.X.Label.Text, p.Y.Label.Text = "seconds", "orders"
	style := p.Legend.TextStyle
	style.Font.Size, style.Rotation, style.YAlign = nameSize, math.Pi/2, text.YCenter
	var longestName vg.Length
	for _, o := range r.Outcomes {
		longestName = max(longestName, style.Width(o.label()))
	}
	width := max(14*vg.Inch, frame+nameStep*vg.Length(len(r.Outcomes)+4))
	end, top := 1.0, max(float64(r.Accepted), 1)
	for _, s := range r.samples {
		end = max(end, s.At.Seconds())
	}
	for _, o := range r.Outcomes {
		if err := shade(p, o, top); err != nil {
			return err
		}
	}
	if err := r.name(p, style, top, end, end*float64(nameStep/(width-frame))); err != nil {
		return err
	}
	if err := r.draw(p); err != nil {
		return err
	}
	names := longestName + 0.5*vg.Inch
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, end, 0, top*float64((curves+names)/curves)
	p.Y.Tick.Marker = plot.TickerFunc(func(low, _ float64) []plot.Tick { return plot.DefaultTicks{}.Ticks(low, top) })
	return p.Save(width, frame+curves+names, file)
}

// draw draws the curves.
func (r *Report) draw(p *plot.Plot) error {
	var points [2]plotter.XYs
	for _, s := range r.samples {
		points[0] = append(points[0], plotter.XY{X: s.At.Seconds(), Y: float64(s.Accepted)})
		points[1] = append(points[1], plotter.XY{X: s.At.Seconds(), Y: float64(s.Ended)})
	}
	for i, name := range []string{"accepted", "paid, declined or refunded"} {
		line, err := plotter.NewLine(points[i])
		if err != nil {
			return err
		}
		line.Color = []color.Color{color.RGBA{B: 0x90, A: 0xff}, color.RGBA{R: 0xd0, G: 0x40, A: 0xff}}[i]
		line.Width = vg.Points(1.5)
		p.Add(line)
		p.Legend.Add(name, line)
	}
	return nil
}

// label is the name of a fault in the picture.
func (o Outcome) label() string {
	if o.Trouble != "" {
		return o.Fault + " (did not work)"
	}
	return o.Fault
}

// shade draws a fault as a grey piece of time. What went on beside others is a line.
func shade(p *plot.Plot, o Outcome, top float64) error {
	from, to := o.At.Seconds(), (o.At + o.Took).Seconds()
	if o.Beside {
		to = from
	}
	area, err := plotter.NewPolygon(plotter.XYs{{X: from}, {X: from, Y: top}, {X: to, Y: top}, {X: to}})
	if err != nil {
		return err
	}
	area.Color, area.LineStyle.Color = color.Gray{Y: 0xe4}, color.Gray{Y: 0xc0}
	p.Add(area)
	return nil
}

// name writes the names of the faults above the curves, at least a step apart and within
// the picture, each with a line to its fault.
func (r *Report) name(p *plot.Plot, style text.Style, top, end, step float64) error {
	if len(r.Outcomes) == 0 {
		return nil
	}
	var names plotter.XYLabels
	at := math.Inf(-1)
	for _, o := range r.Outcomes {
		at = max(at+step, o.At.Seconds())
		names.XYs = append(names.XYs, plotter.XY{X: at, Y: 1.06 * top})
		names.Labels = append(names.Labels, o.label())
	}
	latest := end
	for i := len(names.XYs) - 1; i >= 0; i-- {
		names.XYs[i].X = min(names.XYs[i].X, latest)
		latest = names.XYs[i].X - step
	}
	for i, o := range r.Outcomes {
		line, err := plotter.NewLine(plotter.XYs{{X: o.At.Seconds(), Y: top}, {X: names.XYs[i].X, Y: 1.05 * top}})
		if err != nil {
			return err
		}
		line.Color = color.Gray{Y: 0xa0}
		p.Add(line)
	}
	labels, err := plotter.NewLabels(names)
	if err != nil {
		return err
	}
	for i := range labels.TextStyle {
		labels.TextStyle[i] = style
	}
	p.Add(labels)
	return nil
}
