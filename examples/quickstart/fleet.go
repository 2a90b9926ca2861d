package main

import (
	"fmt"
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
// prompts that it takes, and the queue sends it no others.
func newFleet(queue consign.WorkerAPI) (fleet, error) {
	f := fleet{
		{name: "phone", maxTier: 1, slots: 1},
		{name: "laptop", maxTier: 2, slots: 1},
		{name: "desktop", maxTier: 3, slots: 1},
		{name: "server", maxTier: 4, slots: 2},
	}
	task.Class() // loads its tables now, rather than on the first job's time
	for _, m := range f {
		m.identity = sign.Generate()
		w, err := worker.New(worker.Config{
			API:          queue, // in another process: what a transport's dialer returns
			Identity:     m.identity,
			Executors:    map[string]worker.Executor{consign.KindTask: task.Executor{}},
			Slots:        m.slots,
			Capabilities: consign.Capabilities{MaxContextTier: m.maxTier},
		})
		if err != nil {
			return nil, err
		}
		m.worker = w
	}
	return f, nil
}

func (f fleet) String() string {
	var names []string
	for _, m := range f {
		names = append(names, fmt.Sprintf("%s up to %d", m.name, m.maxTier))
	}
	return "Workers in this process: " + strings.Join(names, ", ") + "."
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
