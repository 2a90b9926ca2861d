package consign

import (
	"cmp"
	"slices"
)

// inPair says that an account trusts a worker with its PRIVATE jobs, or no
// longer does.
type inPair struct {
	account string
	worker  WorkerID
	trusted bool
}

func (in inPair) apply(e *engine) {
	accounts := e.trusted[in.worker]
	i, there := slices.BinarySearch(accounts, in.account)
	switch {
	case there == in.trusted:
		return
	case in.trusted: // in a copy: classes hold the slice as it was
		e.trusted[in.worker] = slices.Insert(slices.Clone(accounts), i, in.account)
		e.pairs[in.account]++
	default:
		e.trusted[in.worker] = slices.Delete(slices.Clone(accounts), i, i+1)
		e.pairs[in.account]--
	}
	if len(e.trusted[in.worker]) == 0 {
		delete(e.trusted, in.worker)
	}
	if e.pairs[in.account] == 0 {
		delete(e.pairs, in.account)
	}
	if w := e.workers[in.worker]; w != nil {
		e.classify(w)
	}
}

// trust is an account's trust in a worker.
type trust struct {
	account string
	worker  WorkerID
}

// trusts lists whom accounts trust, in an order that is the same everywhere.
func (e *engine) trusts() (all []trust) {
	for id, accounts := range e.trusted {
		for _, account := range accounts {
			all = append(all, trust{account, id})
		}
	}
	slices.SortFunc(all, func(a, b trust) int {
		return cmp.Or(cmp.Compare(a.account, b.account), slices.Compare(a.worker[:], b.worker[:]))
	})
	return all
}
