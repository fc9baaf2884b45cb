package main

import (
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// plot draws the rate of every contender relative to its scenario's baseline, with the spread.
func (r *results) plot(file string, chosen []scenario) error {
	p := plot.New()
	p.Title.Text = "Rate against the baseline of each scenario (median, lowest to highest round)"
	p.X.Label.Text = "ratio"
	p.X.Min = 0
	var names []string
	var medians, own plotter.XYs
	var spread plotter.XErrors
	for i := len(chosen) - 1; i >= 0; i-- {
		s := chosen[i]
		if s.name == "latency" {
			continue // its rate is fixed
		}
		base := r.figure(s.name, s.contenders[0].name, rate).median
		for j := len(s.contenders) - 1; j >= 0; j-- {
			c := s.contenders[j].name
			f := r.figure(s.name, c, rate)
			at := plotter.XY{X: f.median / base, Y: float64(len(names))}
			medians = append(medians, at)
			if c == ours {
				own = append(own, at)
			}
			spread = append(spread, struct{ Low, High float64 }{(f.median - f.low) / base, (f.high - f.median) / base})
			names = append(names, s.name+": "+c)
		}
	}
	bars, err := plotter.NewXErrorBars(struct {
		plotter.XYs
		plotter.XErrors
	}{medians, spread})
	if err != nil {
		return err
	}
	others, err := plotter.NewScatter(medians)
	if err != nil {
		return err
	}
	mine, err := plotter.NewScatter(own)
	if err != nil {
		return err
	}
	mine.Color = color.RGBA{R: 0xd0, G: 0x40, A: 0xff}
	mine.Radius = vg.Points(4)
	p.Add(plotter.NewGrid(), bars, others, mine)
	p.NominalY(names...)
	return p.Save(9*vg.Inch, vg.Length(len(names))*0.32*vg.Inch+vg.Inch, file)
}
