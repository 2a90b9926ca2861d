package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign/internal/testkit/pgtest"
)

// TestEverySystem has each system do each workload with few jobs, and checks
// what is measured. That no job is lost or runs twice is what once checks.
func TestEverySystem(t *testing.T) {
	p, err := newPlace(t.Context(), systems())
	if errors.Is(err, errNoRedis) || errors.Is(err, pgtest.ErrNoBinaries) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	for _, s := range systems() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel() // they wait more than they work
			for _, w := range workloads() {
				const n = 40
				ms, err := once(t.Context(), p, s, w, n)
				if err != nil {
					t.Fatalf("%s: %v", w.name, err)
				}
				if len(ms) != len(w.figures) {
					t.Fatalf("%s: %d measures of %d figures", w.name, len(ms), len(w.figures))
				}
				for i, f := range w.figures {
					checkMeasure(t, s, f, &ms[i], n)
				}
			}
		})
	}
}

func checkMeasure(t *testing.T, s system, f figure, m *measure, n int) {
	t.Helper()
	if m.jobs != n || m.took <= 0 || f.latency != (len(m.latencies) == n) {
		t.Errorf("%s: %d jobs in %v, %d latencies, of %d jobs", f.name, m.jobs, m.took, len(m.latencies), n)
	}
	for _, l := range m.latencies {
		if l <= 0 {
			t.Errorf("%s: a job started %v after its submit", f.name, l)
		}
	}
	if onPG := s.on == onPostgres; onPG != (m.cost.wal > 0) || onPG != (m.cost.trips > 0) {
		t.Errorf("%s: %d bytes of WAL, %d round trips", f.name, m.cost.wal, m.cost.trips)
	}
}

// fake is a queue in memory, and what is wrong with it.
type fake struct {
	waiting     []int
	lose, again bool // job 3, its run
	silent      bool // one completion is not told of
	deaf        bool // answers with an error
	closed      int
}

func (f *fake) submit(_ context.Context, n int) error {
	if f.deaf {
		return io.ErrUnexpectedEOF
	}
	f.waiting = append(f.waiting, n)
	return nil
}

func (f *fake) submitMany(ctx context.Context, first, end int) error {
	for n := first; n < end; n++ {
		if err := f.submit(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) work(_ context.Context, _ int, run, completed func(int)) error {
	go func() {
		for _, n := range f.waiting {
			switch {
			case n == 3 && f.lose:
				continue
			case n == 3 && f.again:
				run(n)
			}
			run(n)
			if n != 3 || !f.silent {
				completed(1)
			}
		}
	}()
	return nil
}

func (f *fake) close() error { f.closed++; return nil }

// TestLostJobsAreFound: a queue that loses a job, runs one twice or forgets a
// completion gets no figure.
func TestLostJobsAreFound(t *testing.T) {
	for _, c := range []struct {
		name  string
		queue fake
		want  string // of the error
	}{
		{"sound", fake{}, ""},
		{"loses a job", fake{lose: true}, "9 jobs of 10 are completed, 9 have run"},
		{"runs a job twice", fake{again: true}, "1 ran more than once"},
		{"forgets a completion", fake{silent: true}, "9 jobs of 10 are completed, 10 have run"},
		{"answers with an error", fake{deaf: true}, io.ErrUnexpectedEOF.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := system{open: func(context.Context, *place) (queue, error) { return &c.queue, nil }}
				ms, err := once(t.Context(), &place{}, s, workloads()[0], 10)
				if c.want == "" && (err != nil || len(ms) != 2) {
					t.Errorf("%d measures, error %v", len(ms), err)
				}
				if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("error %v, want %q in it", err, c.want)
				}
				if c.queue.closed != 1 {
					t.Errorf("the queue was closed %d times", c.queue.closed)
				}
			})
		})
	}
}

// someResults are two rounds of two systems, of a rate and of latencies.
func someResults() *results {
	ours, theirs := system{name: "ours", title: "Consign & co", against: "theirs", on: onPostgres}, system{name: "theirs", title: "Theirs"}
	rate, lat := figure{name: "rate", title: "Rate"}, figure{name: "lat", title: "Latency", latency: true}
	r := newResults(options{systems: []system{ours, theirs}, workloads: []workload{{figures: []figure{rate, lat}}}})
	r.add(rate, ours, measure{jobs: 3000, took: time.Second, cost: cost{ours: 3 * time.Second, server: 1500 * time.Millisecond, wal: 6000, trips: 300}})
	r.add(rate, ours, measure{jobs: 1000, took: time.Second, cost: cost{ours: time.Second, server: 500 * time.Millisecond, wal: 2000, trips: 100}})
	r.add(rate, theirs, measure{jobs: 1000, took: time.Second})
	r.add(rate, theirs, measure{jobs: 1000, took: 2 * time.Second})
	ms := func(all ...int) (m measure) {
		for _, n := range all {
			m.latencies = append(m.latencies, time.Duration(n)*time.Millisecond)
		}
		m.jobs, m.took = len(all), time.Second
		return m
	}
	r.add(lat, ours, ms(4, 2, 1))
	r.add(lat, ours, ms(2, 2, 9))
	r.add(lat, theirs, ms(8, 8, 8))
	r.add(lat, theirs, ms(6, 2, 6))
	return r
}

// TestRatiosArePaired: a ratio is of the same round, a rate of the median.
func TestRatiosArePaired(t *testing.T) {
	r := someResults()
	rows := r.rows(r.figures[0])
	if got, want := rows[0].rate, (spread{2000, 1000, 3000}); got != want {
		t.Errorf("rates %v, want %v", got, want)
	}
	if got, want := rows[0].ratio, (spread{2.5, 2, 3}); got != want {
		t.Errorf("ratios %v, want %v", got, want)
	}
	if rows[0].against != "Theirs" || rows[1].against != "" {
		t.Errorf("compared with %q and %q", rows[0].against, rows[1].against)
	}
	lat := r.rows(r.figures[1])[0]
	if got, want := lat.ratio, (spread{3.5, 3, 4}); got != want || lat.p50 != 2*time.Millisecond || lat.p99 != 9*time.Millisecond {
		t.Errorf("latency: ratios %v, p50 %v, p99 %v", got, lat.p50, lat.p99)
	}
}

// TestPageSaysWhatWasMeasured reads the tables and the plot.
func TestPageSaysWhatWasMeasured(t *testing.T) {
	r := someResults()
	var page bytes.Buffer
	if err := markdown(&page, options{rounds: 2, command: "go run .", svg: "x/compare.svg"}, []fact{{"cores", "2"}}, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| cores | 2 |",
		"](compare.svg)",
		"| Consign & co | 2.0k (1.0k-3.0k) | Theirs: 2.50 (2.00-3.00) | 2000 | 1000 + 500 | 2 | 0.100 |",
		"| Theirs | 750 (500-1.0k) | - | 1000 | 0 + 0 | - | - |",
		"| Consign & co | 2 | 9 | 6 | Theirs: 3.50 (3.00-4.00) |",
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, page.String())
		}
	}

	var plot bytes.Buffer
	if err := draw(&plot, r); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for d := xml.NewDecoder(&plot); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("the plot is not XML: %v", err)
		}
		switch token := token.(type) {
		case xml.CharData:
			said.Write(token)
		case xml.StartElement:
			for _, a := range token.Attr {
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") || strings.HasPrefix(a.Value, "-") {
					t.Errorf("%s has %s=%q", token.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
	for _, want := range []string{"Consign & co", "Theirs", "2.0k", "2 / 9"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the plot lacks %q: %s", want, said.String())
		}
	}
}

// TestFlags: a wrong one is told from what there is.
func TestFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-systems consign-memdb,nats", `-systems: there is no "nats": choose of consign-memdb, `},
		{"-workloads none", `-workloads: there is no "none": choose of backlog, stream, latency, singles`},
		{"-rounds 0", "-rounds and -time"},
		{"-time -1s", "-rounds and -time"},
		{"stray", `"stray" is no flag`},
	} {
		if _, err := parse(strings.Fields(c.args)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q in it", c.args, err, c.want)
		}
	}
	o, err := parse(strings.Fields("-systems backlite-sqlite,consign-memdb -workloads latency -time 2s"))
	if err != nil || len(o.systems) != 2 || o.systems[0].name != "backlite-sqlite" || len(o.workloads) != 1 || o.rounds != 5 || o.span != 2*time.Second {
		t.Errorf("%+v, error %v", o, err)
	}
	for _, s := range systems() {
		if s.against == "" {
			continue
		}
		if _, err := choose("against", s.against, systems(), func(s system) string { return s.name }); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
	}
}
