package main

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/consignq/consign"
)

// metrics is what the coordinator tells Prometheus.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	inFlight prometheus.Gauge
	workers  prometheus.Gauge
	events   *prometheus.CounterVec
	changes  *prometheus.CounterVec
	batch    prometheus.Histogram
	commit   prometheus.Histogram
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "consign_http_requests_total", Help: "Requests that were answered, by route and status."}, []string{"route", "status"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "consign_http_requests_in_flight", Help: "Requests under way; those that wait for a job, or for a job's end, are most of them."}),
		workers:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "consign_websocket_workers", Help: "Workers that are connected by WebSocket."}),
		events:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "consign_job_events_total", Help: "What happened to jobs, and is in the store."}, []string{"event"}),
		changes:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "consign_store_changes_total", Help: "Changes handed to the store: applied, refused (somebody else was first), unknown (the store failed)."}, []string{"outcome"}),
		batch:    prometheus.NewHistogram(prometheus.HistogramOpts{Name: "consign_store_batch_changes", Help: "Changes in one commit.", Buckets: prometheus.ExponentialBuckets(1, 2, 11)}),
		commit:   prometheus.NewHistogram(prometheus.HistogramOpts{Name: "consign_store_commit_seconds", Help: "How long one commit took.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16)}),
	}
	m.registry.MustRegister(m.requests, m.inFlight, m.workers, m.events, m.changes, m.batch, m.commit, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry}))
	return mux
}

// counting counts the requests to a handler. Their routes are the patterns of
// its router, so that no request can make up a label.
func (m *metrics) counting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.inFlight.Inc()
		defer m.inFlight.Dec()
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r)
		route := r.Pattern
		if route == "" || route == "/" {
			route = "other"
		}
		m.requests.WithLabelValues(route, strconv.Itoa(seen.status)).Inc()
	})
}

// connections counts the connections to a handler that has them for long.
func (m *metrics) connections(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.workers.Inc()
		defer m.workers.Dec()
		next.ServeHTTP(w, r)
	})
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// counted is a store whose commits are counted.
type counted struct {
	consign.Store
	m *metrics
}

// countedShared is one that several queues may share.
type countedShared struct {
	counted
	consign.Notifier
	consign.Clock
}

// Apply implements consign.Store.
func (s *counted) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	began := time.Now()
	outcomes, err := s.Store.Apply(ctx, changes)
	s.m.commit.Observe(time.Since(began).Seconds())
	s.m.batch.Observe(float64(len(changes)))
	if err != nil {
		s.m.changes.WithLabelValues("unknown").Add(float64(len(changes)))
		return outcomes, err
	}
	for i := range changes {
		if outcomes[i] != nil {
			s.m.changes.WithLabelValues("refused").Inc()
			continue
		}
		s.m.changes.WithLabelValues("applied").Inc()
		for _, entry := range changes[i].Log {
			s.m.events.WithLabelValues(entry.Event.String()).Inc()
		}
	}
	return outcomes, nil
}
