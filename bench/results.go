package main

import (
	"slices"
	"time"
)

// results holds what was measured: of each figure and system, the rounds.
type results struct {
	figures []figure
	systems []system
	rounds  map[cell][]measure
}

type cell struct{ figure, system string }

func newResults(o options) *results {
	r := &results{systems: o.systems, rounds: map[cell][]measure{}}
	for _, w := range o.workloads {
		r.figures = append(r.figures, w.figures...)
	}
	return r
}

func (r *results) add(f figure, s system, m measure) {
	slices.Sort(m.latencies)
	c := cell{f.name, s.name}
	r.rounds[c] = append(r.rounds[c], m)
}

// row is a system's line in a figure's table.
type row struct {
	system       system
	rate         spread // jobs a second
	p50, p99     time.Duration
	samples      int // of latencies
	ratio        spread
	against      string // title of the peer; "": none was measured
	rounds, jobs int    // jobs in all rounds
	ours, server time.Duration
	wal, trips   float64 // a job
}

// spread is the median of some values, and their ends.
type spread struct{ median, least, most float64 }

func spreadOf(values []float64) spread {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return spread{(v[(n-1)/2] + v[n/2]) / 2, v[0], v[n-1]}
}

// rows are a figure's, in the order of the systems.
func (r *results) rows(f figure) (rows []row) {
	for _, s := range r.systems {
		ms := r.rounds[cell{f.name, s.name}]
		if len(ms) == 0 {
			continue
		}
		rows = append(rows, r.row(f, s, ms))
	}
	return rows
}

func (r *results) row(f figure, s system, ms []measure) row {
	out := row{system: s, rounds: len(ms)}
	var rates, ratios []float64
	var all measure
	for _, m := range ms {
		rates = append(rates, m.rate())
		out.jobs += m.jobs
		out.ours += m.cost.ours
		out.server += m.cost.server
		out.wal += float64(m.cost.wal)
		out.trips += float64(m.cost.trips)
		all.latencies = append(all.latencies, m.latencies...)
	}
	n := time.Duration(out.jobs)
	out.rate = spreadOf(rates)
	out.ours, out.server, out.wal, out.trips = out.ours/n, out.server/n, out.wal/float64(n), out.trips/float64(n)
	if f.latency {
		slices.Sort(all.latencies)
		out.p50, out.p99, out.samples = all.quantile(0.5), all.quantile(0.99), len(all.latencies)
	}
	peer := f.peer(s)
	theirs := r.rounds[cell{f.name, peer}]
	if len(theirs) != len(ms) {
		return out
	}
	for i := range ms { // of the same round: the machine may have been another in the next
		if f.latency {
			ratios = append(ratios, theirs[i].quantile(0.5).Seconds()/ms[i].quantile(0.5).Seconds())
		} else {
			ratios = append(ratios, ms[i].rate()/theirs[i].rate())
		}
	}
	out.ratio = spreadOf(ratios)
	for _, other := range r.systems {
		if other.name == peer {
			out.against = other.title
		}
	}
	return out
}

// peer names the system that one is compared with. Latency is measured at
// defaults, so there the peer has its own.
func (f figure) peer(s system) string {
	if f.latency && s.against == "river-postgres" {
		if s.name == "river-postgres-defaults" {
			return ""
		}
		return "river-postgres-defaults"
	}
	return s.against
}
