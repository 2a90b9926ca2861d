package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/worker"
	"github.com/consignq/consign/worker/task"
)

// member is one of our workers. Its identity is a key of its own: the queue
// knows it by the public half, and it signs what it did with the private one.
type member struct {
	name     string
	maxTier  consign.Tier
	slots    int
	identity *sign.Identity
	worker   *worker.Worker
}

type fleet []*member

// newFleet makes four workers of different strength. Each declares the longest
// prompts that it takes, and the queue sends it no others. The laptop alone also
// takes the PRIVATE jobs of the submitter. Where there is a language model, a
// fifth worker asks it.
func newFleet(queue consign.WorkerAPI, submitter sign.PublicKey, model *model) (fleet, error) {
	f := fleet{
		{name: "phone", maxTier: 1, slots: 1},
		{name: "laptop", maxTier: 2, slots: 1},
		{name: "desktop", maxTier: 3, slots: 1},
		{name: "server", maxTier: 4, slots: 2},
	}
	task.Class() // loads its tables now, rather than on the first job's time
	for _, m := range f {
		c := worker.Config{
			Executors:    map[string]worker.Executor{consign.KindTask: task.Executor{}},
			Slots:        m.slots,
			Capabilities: consign.Capabilities{MaxContextTier: m.maxTier},
		}
		if m.name == paired {
			c.Pinned = func(key [32]byte) bool { return key == submitter.ID() }
		}
		if err := m.hire(queue, c); err != nil {
			return nil, err
		}
	}
	if model == nil {
		return f, nil
	}
	m := &member{name: "llm", maxTier: consign.MaxTier, slots: 1}
	return append(f, m), m.hire(queue, worker.Config{
		Executors:    map[string]worker.Executor{consign.KindInference: model.executor},
		Capabilities: consign.Capabilities{Models: []string{model.name}},
	})
}

// hire makes the member's worker.
func (m *member) hire(queue consign.WorkerAPI, c worker.Config) (err error) {
	m.identity = sign.Generate()
	c.API, c.Identity = queue, m.identity // in another process: what a transport's dialer returns
	m.worker, err = worker.New(c)
	return err
}

func (f fleet) String() string {
	var names []string
	for _, m := range f {
		names = append(names, fmt.Sprintf("%s up to %d", m.name, m.maxTier))
	}
	return "Workers in this process: " + strings.Join(names, ", ") + "."
}

// named returns the worker with the name.
func (f fleet) named(name string) *member {
	return f[slices.IndexFunc(f, func(m *member) bool { return m.name == name })]
}

// by returns the worker with the ID, or nil.
func (f fleet) by(id consign.WorkerID) *member {
	for _, m := range f {
		if m.worker.ID() == id {
			return m
		}
	}
	return nil
}

// key pins the workers that the submitter believes: ours, and nobody else.
func (f fleet) key(id consign.WorkerID) (sign.PublicKey, error) {
	if m := f.by(id); m != nil {
		return m.identity.Public(), nil
	}
	return sign.PublicKey{}, fmt.Errorf("worker %s is none of ours: do not use its result", id)
}
