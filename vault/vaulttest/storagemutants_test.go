package vaulttest

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/consignq/consign"
	"github.com/consignq/consign/vault"
)

// plain is a storage as simple as can be, with a few faults to choose from.
type plain struct {
	mu      sync.Mutex
	records map[name]vault.Record
	retired map[[8]byte]bool
	late    []vault.Record // put or replaced, by those who gave up
	fault   string
	crowd   sync.WaitGroup
	seen    context.Context // done once All has yielded all
	saw     context.CancelFunc
}

type name struct {
	job    consign.JobID
	header [32]byte
}

func newPlain() *plain {
	p := &plain{records: make(map[name]vault.Record), retired: make(map[[8]byte]bool)}
	p.seen, p.saw = context.WithCancel(context.Background())
	p.crowd.Add(4 * vault.MaxHeaders) // as many as the checks Crowd and Late let loose
	return p
}

// with returns the storage with a fault.
func with(fault string) func(vault.Storage) vault.Storage {
	return func(s vault.Storage) vault.Storage {
		s.(*plain).fault = fault
		return s
	}
}

func (p *plain) Put(ctx context.Context, r vault.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.late {
		p.records[name{r.Job, r.Header}] = r
	}
	if ctx.Err() != nil && p.fault == "keeps later what was given up" {
		p.late = append(p.late, r)
		return ctx.Err()
	}
	if p.retired[r.KEK()] && p.fault != "keeps what is retired" {
		return vault.ErrRetired
	}
	if p.fault == "retires before those who write have ended" && r.Job[0] < byte(4*vault.MaxHeaders) {
		p.mu.Unlock()
		p.crowd.Done()
		<-p.seen.Done()
		p.mu.Lock()
	}
	at := name{r.Job, r.Header}
	_, there := p.records[at]
	others := 0
	for other := range p.records {
		if other.job == r.Job && other != at {
			others++
		}
	}
	if there && p.fault == "keeps the first" {
		return nil
	}
	if p.fault == "counts the one that it replaces" && there {
		others++
	}
	if p.fault == "counts before it locks" {
		p.mu.Unlock()
		p.crowd.Done() // all have counted before one goes on
		p.crowd.Wait()
		p.mu.Lock()
	}
	if others >= vault.MaxHeaders && p.fault != "is never full" {
		if p.fault == "keeps what it refuses" {
			p.records[at] = r
		}
		return vault.ErrFull
	}
	switch p.fault {
	case "forgets the time":
		r.At = 0
	case "cuts long records":
		r.Sealed = r.Sealed[:min(len(r.Sealed), 128)]
	case "mixes up headers":
		at.header = [32]byte{}
	}
	p.records[at] = r
	return nil
}

func (p *plain) Replace(ctx context.Context, rs []vault.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() != nil && p.fault == "replaces later what was given up" {
		p.late = append(p.late, rs...)
		return ctx.Err()
	}
	isRetired := func(r vault.Record) bool { return p.retired[r.KEK()] }
	if slices.ContainsFunc(rs, isRetired) && p.fault != "replaces by what is retired" {
		if p.fault == "replaces half" {
			p.records[name{rs[0].Job, rs[0].Header}] = rs[0]
		}
		return vault.ErrRetired
	}
	for _, r := range rs {
		at := name{r.Job, r.Header}
		old, there := p.records[at]
		if !there && p.fault != "brings back what is gone" || there && old.At != r.At && p.fault != "replaces at any time" {
			continue
		}
		if p.fault != "replaces nothing" {
			p.records[at] = r
		}
	}
	return nil
}

func (p *plain) Get(_ context.Context, job consign.JobID) (rs []vault.Record, _ error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at, r := range p.records {
		if at.job == job || p.fault == "gets all" {
			rs = append(rs, r)
		}
	}
	return rs, nil
}

func (p *plain) All(context.Context) iter.Seq2[vault.Record, error] {
	return func(yield func(vault.Record, error) bool) {
		p.mu.Lock()
		all := slices.SortedFunc(maps.Values(p.records), func(a, b vault.Record) int { return bytes.Compare(a.Job[:], b.Job[:]) })
		p.mu.Unlock()
		defer p.saw()
		for i, r := range all {
			if p.fault == "yields the first page" && i == 50 || !yield(r, nil) {
				return
			}
		}
	}
}

func (p *plain) Delete(_ context.Context, rs []vault.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range rs {
		at := name{r.Job, r.Header}
		switch old, there := p.records[at]; {
		case p.fault == "deletes nothing":
		case p.fault == "deletes the whole job":
			maps.DeleteFunc(p.records, func(at name, _ vault.Record) bool { return at.job == r.Job })
		case there && (old.At == r.At || p.fault == "deletes at any time"):
			delete(p.records, at)
		case p.fault == "stops at one that is gone":
			return nil
		}
	}
	if p.fault == "deletes all for none" && len(rs) == 0 {
		clear(p.records)
	}
	return nil
}

func (p *plain) Retire(_ context.Context, old [][8]byte, present [8]byte) error {
	if p.fault == "retires before those who write have ended" {
		p.crowd.Wait()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault == "retires one" && len(old) > 1 {
		old = old[:1]
	}
	for _, id := range old {
		p.retired[id] = true
		if p.fault == "destroys what is retired" {
			maps.DeleteFunc(p.records, func(_ name, r vault.Record) bool { return r.KEK() == id })
		}
	}
	switch p.fault {
	case "retires for ever":
	case "retires what was retired no more":
		clear(p.retired)
	default:
		delete(p.retired, present)
	}
	return nil
}

func (p *plain) Close() error { return nil }

var storageMutants = []mutant[vault.Storage]{
	{"keeps the first", "Put", with("keeps the first")},
	{"forgets the time", "Put", with("forgets the time")},
	{"cuts long records", "Put", with("cuts long records")},
	{"mixes up headers", "Put", with("mixes up headers")},
	{"gets all", "Put", with("gets all")},
	{"is never full", "Full", with("is never full")},
	{"keeps what it refuses", "Full", with("keeps what it refuses")},
	{"counts the one that it replaces", "Full", with("counts the one that it replaces")},
	{"counts before it locks", "Crowd", with("counts before it locks")},
	{"replaces nothing", "Replace", with("replaces nothing")},
	{"brings back what is gone", "Replace", with("brings back what is gone")},
	{"replaces at any time", "Replace", with("replaces at any time")},
	{"yields the first page", "All", with("yields the first page")},
	{"keeps what is retired", "Retire", with("keeps what is retired")},
	{"replaces by what is retired", "Retire", with("replaces by what is retired")},
	{"replaces half", "Retire", with("replaces half")},
	{"retires one", "Retire", with("retires one")},
	{"destroys what is retired", "Retire", with("destroys what is retired")},
	{"retires for ever", "Present", with("retires for ever")},
	{"retires what was retired no more", "Present", with("retires what was retired no more")},
	{"keeps later what was given up", "Late", with("keeps later what was given up")},
	{"replaces later what was given up", "Late", with("replaces later what was given up")},
	{"retires before those who write have ended", "Late", with("retires before those who write have ended")},
	{"deletes nothing", "Delete", with("deletes nothing")},
	{"deletes the whole job", "Delete", with("deletes the whole job")},
	{"deletes at any time", "Deposited", with("deletes at any time")},
	{"stops at one that is gone", "Delete", with("stops at one that is gone")},
	{"deletes all for none", "Delete", with("deletes all for none")},
}
