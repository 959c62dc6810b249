package main

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// plots draws the tables that are better seen.
func (b *bench) plots() error {
	var errs []error
	for _, t := range b.tables {
		switch t.name {
		case "L1Hit":
			errs = append(errs, b.bars(t, "l1-hit.svg", "value=user/dist=zipf/cpus=1", "ns/op", "L1 hit, 10-field struct, Zipf"))
		case "L2Hit":
			errs = append(errs,
				b.lines(t, "l2-throughput.svg", "goroutines", "ops/s", "L2 hits a second"),
				b.lines(t, "l2-p99.svg", "goroutines", "p99-ns", "p99 of an L2 hit"))
		case "Obey":
			errs = append(errs, b.lines(t, "obey.svg", "rate", "p99-ns", "p99 until another process obeys"))
		case "Memory":
			errs = append(errs, b.bars(t, "memory.svg", "size=100", "B/entry", "Memory per entry of 100 bytes"))
		case "HitRatio":
			_, name, _ := strings.Cut(t.title, ": ")
			errs = append(errs, b.lines(t, "hit-ratio-"+name+".svg", "capacity", "%", "Hit ratio, "+name))
		}
	}
	return errors.Join(errs...)
}

// bars draws one value a peer, the best first.
func (b *bench) bars(t *table, file, params, unit, title string) error {
	type bar struct {
		peer  string
		value float64
	}
	var all []bar
	for i := range t.rows {
		if t.rows[i].params == params {
			all = append(all, bar{t.rows[i].peer, t.rows[i].value(unit)})
		}
	}
	slices.SortFunc(all, func(a, b bar) int {
		if a.value < b.value {
			return -1
		}
		return 1
	})
	p := plot.New()
	p.Title.Text = title
	p.Y.Label.Text = unit // linear: bars begin at nothing
	names := make([]string, len(all))
	for i, a := range all {
		names[i] = a.peer + "\n" + format(a.value, unit)
		bars, err := plotter.NewBarChart(plotter.Values{a.value}, vg.Points(28))
		if err != nil {
			return err
		}
		bars.XMin = float64(i)
		bars.Color = plotutil.Color(0)
		if a.peer == "tandem" {
			bars.Color = plotutil.Color(2)
		}
		p.Add(bars)
	}
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.5, float64(len(all))-0.5 // names are wider than bars
	p.Y.Min = 0
	return p.Save(vg.Points(float64(90*len(all)+100)), vg.Points(320), filepath.Join(b.dir, file))
}

// marks are ticks at the places given alone, as numbers.
func marks(at map[float64]bool) plot.ConstantTicks {
	var ticks plot.ConstantTicks
	for x := range at {
		ticks = append(ticks, plot.Tick{Value: x, Label: fmt.Sprint(x)})
	}
	return ticks
}

// steps are ticks at 1, 2 and 5 times the powers of ten, in the unit that people
// read.
func steps(unit string) plot.TickerFunc {
	return func(least, most float64) []plot.Tick {
		var ticks []plot.Tick
		for power := math.Pow(10, math.Floor(math.Log10(least))); power <= most; power *= 10 {
			for _, n := range []float64{1, 2, 5} {
				if v := n * power; v >= least && v <= most {
					ticks = append(ticks, plot.Tick{Value: v, Label: format(v, unit)})
				}
			}
		}
		return ticks
	}
}

// lines draws a line a peer over the parameter x, both on log scales.
func (b *bench) lines(t *table, file, x, unit, title string) error {
	p := plot.New()
	p.Title.Text = title
	p.X.Label.Text, p.Y.Label.Text = x, unit
	p.X.Scale = plot.LogScale{}
	if unit != "%" {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, steps(unit)
	}
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.Padding = vg.Points(2)
	p.Add(plotter.NewGrid())
	series := map[string]plotter.XYs{}
	xs := map[float64]bool{}
	var order []string
	for i := range t.rows {
		r := &t.rows[i]
		var at float64
		for part := range strings.SplitSeq(r.params, "/") {
			if text, ok := strings.CutPrefix(part, x+"="); ok {
				_, _ = fmt.Sscan(text, &at)
			}
		}
		if v := r.value(unit); at > 0 && v > 0 {
			if series[r.peer] == nil {
				order = append(order, r.peer)
			}
			series[r.peer] = append(series[r.peer], plotter.XY{X: at, Y: v})
			xs[at] = true
		}
	}
	p.X.Tick.Marker = marks(xs)
	for i, name := range order {
		xy := series[name]
		slices.SortFunc(xy, func(a, b plotter.XY) int { return int(a.X - b.X) })
		line, points, err := plotter.NewLinePoints(xy)
		if err != nil {
			return err
		}
		line.Color, points.Color, points.Shape = plotutil.Color(i), plotutil.Color(i), plotutil.Shape(i)
		if name == "tandem" {
			line.Width = vg.Points(3)
		}
		p.Add(line, points)
		p.Legend.Add(name, line, points)
	}
	p.X.Max *= math.Pow(p.X.Max/p.X.Min, 0.04) // so that the last number is not cut off
	return p.Save(vg.Points(640), vg.Points(420), filepath.Join(b.dir, file))
}
